"""The upload form."""

from flask_wtf import FlaskForm
from flask_wtf.file import FileField, FileRequired


class UploadForm(FlaskForm):
    """One picture, video or recording."""

    file = FileField(validators=[FileRequired("Choose a file first.")])
