"""Files in, arrays out: pictures, DICOM, folders of them, boxes and tables. Needs the extra ``io``."""
