"""Serve the detector: `python app.py`, or `gunicorn app:app` with the shipped gunicorn.conf.py."""

import sys

from webapp import create_app
from webapp.config import StartupError
from webapp.detector_thread import warm_up

try:
    app = create_app()
    if __name__ == "__main__":
        warm_up(app)
except StartupError as error:
    if __name__ != "__main__":
        raise  # gunicorn prints the sentence and stops
    sys.exit(str(error))

if __name__ == "__main__":
    app.run(host="127.0.0.1", port=5000)
