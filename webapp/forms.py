"""The upload form."""

from flask_wtf import FlaskForm
from flask_wtf.file import MultipleFileField

from webapp.batches.files import UploadedFile


class UploadForm(FlaskForm):
    """Pictures, videos, recordings or ZIP archives, chosen as files or as a folder."""

    file = MultipleFileField()
    folder = MultipleFileField()

    @property
    def files(self) -> list[UploadedFile]:
        """The files as sent; empty if none was chosen."""
        sent = [*(self.file.data or ()), *(self.folder.data or ())]
        return [UploadedFile(each.filename, each.stream) for each in sent]
