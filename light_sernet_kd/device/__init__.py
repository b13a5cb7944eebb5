"""What runs exported files: predictions, timelines, the microphone, the page."""
