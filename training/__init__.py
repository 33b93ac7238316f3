"""Training, calibration and evaluation; never imported by the detector or the web application."""
