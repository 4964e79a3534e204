"""The world of open art, 128x128: Pascal VOC's classes and more, as sprites of open emoji sets."""
