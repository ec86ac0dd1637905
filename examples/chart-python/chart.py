"""A bar chart with Pillow. Everything is drawn at twice its size and scaled down, which smooths the round corners."""

import io
import math

from PIL import Image, ImageDraw, ImageFont

BARS_MAX = 24
TITLE_CHARS = 120
LABEL_CHARS = 60
VALUE_MAX = 1e12

SCALE = 2
WIDTH, HEIGHT = 880, 500
LEFT, TOP, RIGHT, BOTTOM = 84, 96, 40, 60

PAPER = "#ffffff"
INK = "#1c2433"
FAINT = "#6b7587"
GRID = "#e6e9ef"
BAR = "#8fb3f5"
HIGHEST = "#2f6de0"


class InvalidChart(ValueError):
    """What was asked for cannot be drawn; the message says why."""


def draw(title, data):
    """The PNG of a chart with a bar for each label of `data`."""
    check(title, data)
    canvas = Canvas()
    canvas.text((LEFT - 44, 34), fit(title, canvas.title, WIDTH - LEFT), canvas.title, INK, "lt")
    top = axis(canvas, max(data.values()))
    bars(canvas, data, top)
    return canvas.png()


def check(title, data):
    if len(title) > TITLE_CHARS or not printable(title):
        raise InvalidChart(f"title has to be one line of at most {TITLE_CHARS} ASCII characters")
    if not 1 <= len(data) <= BARS_MAX:
        raise InvalidChart(f"data has to have 1 to {BARS_MAX} bars, with different labels")
    for label, value in data.items():
        if not label.strip() or len(label) > LABEL_CHARS or not printable(label):
            raise InvalidChart(f"a label has to be one line of 1 to {LABEL_CHARS} ASCII characters")
        # True and False are numbers to Python, and NaN is neither below nor above a bound.
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not 0 <= value <= VALUE_MAX:
            raise InvalidChart(f"the value of {label!r} has to be a number from 0 to {VALUE_MAX:.0e}")


def printable(text):
    # The font that comes with Pillow would draw an empty box for nearly everything else.
    return text.isascii() and text.isprintable()


def axis(canvas, highest):
    """Draws the grid and its numbers; returns the value at the upper end."""
    step = tick(highest)
    count = max(1, math.ceil(highest / step - 1e-9))
    for i in range(count + 1):
        y = height_of(i * step, count * step)
        canvas.line((LEFT, y, WIDTH - RIGHT, y), FAINT if i == 0 else GRID)
        canvas.text((LEFT - 12, y), number(i * step), canvas.small, FAINT, "rm")
    return count * step


def bars(canvas, data, top):
    slot = (WIDTH - RIGHT - LEFT) / len(data)
    thick = min(slot * 0.62, 96)
    highest = max(data.values())
    for i, (label, value) in enumerate(data.items()):
        middle = LEFT + slot * (i + 0.5)
        y, ground = height_of(value, top), height_of(0, top)
        color = HIGHEST if value == highest else BAR
        if ground - y >= 1:
            canvas.bar((middle - thick / 2, y, middle + thick / 2, ground), color)
        # A number is there whole or not at all: cut off, it would be another one.
        if canvas.small.getlength(number(value)) <= (slot - 2) * SCALE:
            canvas.text((middle, y - 8), number(value), canvas.small, INK, "mb")
        canvas.text((middle, ground + 26), fit(label, canvas.label, slot - 6), canvas.label, FAINT, "ms")


def height_of(value, top):
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / top


def tick(highest):
    """The step of the axis: 1, 2 or 5 times a power of ten, four to eight of them up to `highest`."""
    if highest < 1e-6:
        return 1
    power = 10 ** math.floor(math.log10(highest / 4))
    return max(f * power for f in (1, 2, 5) if f * power <= highest / 4)


def number(value):
    """As short as it can be: 1,250 in full, `12500` as 12.5k."""
    if 1e3 <= value < 9999.5:
        return f"{value:,.0f}"
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.4g}{suffix}"
    return f"{value:.4g}"


def fit(text, font, width):
    """The text, cut off so that it is no wider than `width`."""
    if font.getlength(text) <= width * SCALE:
        return text
    while text and font.getlength(text + "…") > width * SCALE:
        text = text[:-1]
    return text.rstrip() + "…"


class Canvas:
    """A picture whose points are those of the finished one."""

    def __init__(self):
        self.image = Image.new("RGB", (WIDTH * SCALE, HEIGHT * SCALE), PAPER)
        self.pen = ImageDraw.Draw(self.image)
        self.title, self.label, self.small = (ImageFont.load_default(s * SCALE) for s in (24, 16, 14))

    def text(self, at, text, font, color, anchor):
        self.pen.text([c * SCALE for c in at], text, fill=color, font=font, anchor=anchor)

    def line(self, ends, color):
        self.pen.line([round(c) * SCALE for c in ends], fill=color, width=SCALE)

    def bar(self, box, color):
        box = [round(c * SCALE) for c in box]
        radius = min(6 * SCALE, (box[2] - box[0]) // 2, box[3] - box[1])
        self.pen.rounded_rectangle(box, radius, fill=color, corners=(True, True, False, False))

    def png(self):
        file = io.BytesIO()
        self.image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS).save(file, "PNG", optimize=True)
        return file.getvalue()
