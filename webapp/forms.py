"""The upload form."""

from flask_wtf import FlaskForm
from flask_wtf.file import FileField, FileRequired

from detector.text import translatable


class UploadForm(FlaskForm):
    """One picture, video or recording."""

    file = FileField(validators=[FileRequired(translatable("Choose a file first."))])
