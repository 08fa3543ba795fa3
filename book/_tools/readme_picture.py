"""Make the README's picture from the landing page's figure: `make picture`.

The figure lies, drawn, in book/intro.ipynb. Taking it from there keeps the two from drifting apart; a test compares them.
"""

import base64

from chapters import BOOK, read

PICTURE = BOOK / "_static" / "readme.png"


def figure():
    """The first picture of the landing page, as PNG bytes, as it stands in the notebook."""
    outputs = (out for cell in read(BOOK / "intro.ipynb").cells for out in cell.get("outputs", []))
    return base64.b64decode(next(out.data["image/png"] for out in outputs if "image/png" in out.get("data", {})))


def main():
    PICTURE.write_bytes(figure())
    print(f"{PICTURE.name}: {PICTURE.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
