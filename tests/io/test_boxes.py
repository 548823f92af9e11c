"""Box files: NIH's own and plain ones, and what is wrong with them."""

import pytest

from kacl_gpu.errors import InputError
from kacl_gpu.io.boxes import Target, read_boxes


def read(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "boxes.csv"
    path.write_bytes(text.encode(encoding))
    return read_boxes(path)


BOX = Target("a.png", "Mass", (1.0, 2.0, 30.0, 40.0))


@pytest.mark.parametrize(
    "text",
    [
        "image,label,x1,y1,x2,y2\na.png,Mass,1,2,30,40\n",
        "\ufeffimage,label,x1,y1,x2,y2\na.png,Mass,1,2,30,40\n",
        "IMAGE, Label ,X1,Y1,X2,Y2\r\n a.png , Mass , 1 ,2,30,40\r\n\r\n",
        "y2,x2,other,y1,x1,label,image\n40,30,me,2,1,Mass,a.png\n",
        "image;label;x1;y1;x2;y2\na.png;Mass;1;2;30,0;40,00\n",
        "image\tlabel\tx1\ty1\tx2\ty2\na.png\tMass\t1\t2\t30\t40\n",
        'image,label,x1,y1,x2,y2,,\n"a.png","Mass",1,2,30,4e1,,\n',
        "image,label,x,y,w,h\na.png,Mass,1,2,29,38\n",
        "height,width,y,x,label,image\n38,29,2,1,Mass,a.png\n",
        "image,label,x,y,w,h,x1,y1,x2,y2\na.png,Mass,9,9,9,9,1,2,30,40\n",
    ],
)
def test_the_same_box_in_every_dialect(tmp_path, text):
    assert read(tmp_path, text) == [BOX]


def test_a_name_with_commas_and_semicolons(tmp_path):
    assert read(tmp_path, 'image,x1,y1,x2,y2\n"a; b, c.png",1,2,30,40\n')[0].image == "a; b, c.png"


@pytest.mark.parametrize("header", ["image,x1,y1,x2,y2,x1", "Image,image,x1,y1,x2,y2", "image,x1,y1,x2,y2,note,Note"])
def test_a_column_twice_is_refused(tmp_path, header):
    with pytest.raises(InputError, match=r"boxes.csv has a column twice: (x1|image|note)"):
        read(tmp_path, f"{header}\na.png,1,2,30,40,7,8\n")


@pytest.mark.parametrize(
    ("numbers", "problem"),
    [
        ("1,2,30,", "the box is not four numbers: 1, 2, 30, "),
        (",,,", "the box is not four numbers: , , , "),
        ("1,2,30,x", "the box is not four numbers: 1, 2, 30, x"),
        ("1,2,30,1_0", "the box is not four numbers: 1, 2, 30, 1_0"),
        ("1,2,30", "the box is not four numbers: 1, 2, 30, "),
        ("1,2,30,40,50", "the line has 6 fields, the header 5"),
    ],
)
def test_a_line_without_four_numbers_has_a_problem(tmp_path, numbers, problem):
    assert read(tmp_path, f"image,x1,y1,x2,y2\na.png,{numbers}\n") == [Target("a.png", problem=problem)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "its columns: none"),
        ("image,x1,y1,x2\n", "its columns: image, x1, y1, x2"),
        ("image,x1,y1,x2,y2\n\n", "no box in"),
        ("x1,y1,x2,y2\n1,2,3,4\n", "neither NIH's nor has the columns image, x1, y1, x2, y2"),
    ],
)
def test_a_file_without_boxes_is_refused(tmp_path, text, words):
    with pytest.raises(InputError, match=words):
        read(tmp_path, text)


def test_what_cannot_be_read_is_said_in_words(tmp_path):
    with pytest.raises(InputError, match=r"cannot read the box file .*boxes.csv: it is not text in UTF-8"):
        read(tmp_path, "image,x1,y1,x2,y2\n", "utf-16")
    with pytest.raises(InputError, match=r"cannot read the box file .*: Is a directory"):
        read_boxes(tmp_path)
    with pytest.raises(InputError, match=r"cannot read the box file .*nowhere: No such file or directory"):
        read_boxes(tmp_path / "nowhere")


def test_boxes_in_nihs_frame_are_scaled(tmp_path):
    (target,) = read(tmp_path, "Image Index,Finding Label,Bbox [x,y,w,h],,,\na.png,Infiltrate,512,256,256,128,,,\n")
    assert target == Target("a.png", "Infiltration", (512, 256, 768, 384), 1024)
    assert target.pixel_box(100, 200) == (100, 25, 150, 37.5)
    assert Target("a.png").pixel_box(100, 200) == (0, 0, 200, 100)
