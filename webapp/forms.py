"""The upload form."""

from flask_wtf import FlaskForm
from flask_wtf.file import FileField, FileRequired


class UploadForm(FlaskForm):
    """One picture."""

    picture = FileField(validators=[FileRequired("Choose a picture first.")])
