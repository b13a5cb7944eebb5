"""What a drawn figure shows, and where."""

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg


def shown(figure):
    """Every non-empty text of a figure, after layout, with its box in pixels."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    texts = [text for text in figure.findobj(matplotlib.text.Text) if text.get_text() and text.get_visible()]
    return [(text.get_text(), text.get_window_extent(renderer), text) for text in texts]


def assert_legible(figure):
    """No text is outside of the page or on another one."""
    texts = shown(figure)
    page = figure.bbox
    for text, box, _ in texts:
        assert page.x0 <= box.x0 <= box.x1 <= page.x1, text
        assert page.y0 <= box.y0 <= box.y1 <= page.y1, text
    # Slanted names have upright bounding boxes that overlap although the letters do not.
    upright = [(text, box) for text, box, artist in texts if artist.get_rotation() != 45]
    for index, (text, box) in enumerate(upright):
        for other, neighbour in upright[index + 1 :]:
            assert not box.overlaps(neighbour), (text, other)
