"""Print the core course: `make pdf`, into `_build/localma-core.pdf`, and slides of each chapter into `_build/slides`.

The built pages of the landing page and of the core course are joined into one page, so that links between them lead to
places of the same document, and Chromium prints it. What is wider than the paper is named, and nothing is printed.
Slides are the chapter again under another style, which keeps headings and what follows them, what is bold, or else a
section's last paragraph, which has its answer, theorems, lists, formulas and pictures.
"""

import re
import shutil
import sys
from urllib.parse import urldefrag, urljoin

import yaml
from bs4 import BeautifulSoup
from build import build
from chapters import ROOT
from playwright.sync_api import sync_playwright

OUT = ROOT / "_build" / "localma-core.pdf"
SLIDES_OUT = ROOT / "_build" / "slides"
#: What is left of an A4 page between margins of 20 mm, in pixels of which Chromium prints 96 on an inch.
WIDTH = round((210 - 40) / 25.4 * 96)
STYLE = """
@page { size: A4; margin: 20mm 20mm 22mm }
html { font-size: 13.5px; scroll-padding: 0 }
body { background: white; min-height: 0 }
article { break-before: page }
.headerlink, .cell_input details, .above-input, .toggle-details__summary, .copybtn { display: none !important }
.cell details.hide { display: none !important }
h1, h2, h3, summary, p:has(> strong:only-child) { break-after: avoid }
figure, img, tr, .admonition-title, div.math, mjx-container { break-inside: avoid }
img { max-height: 22cm; width: auto }
pre { white-space: pre-wrap !important; overflow: visible !important; font-size: 0.8em }
table { font-size: 0.75em }
td:nth-child(2) { overflow-wrap: anywhere }
.margin, aside.margin { float: none !important; width: auto !important; margin: 1rem 0 !important }
"""
SLIDES = """
@page { size: 254mm 143mm; margin: 8mm 42mm 10mm }
html { font-size: 18px }
h2, h3, figure, .cell_output:has(img, table), .proof, .explore img { break-before: page; break-inside: avoid }
h2 + *, h3 + *, h2 + * figure { break-before: avoid }
img { max-height: 10.5cm }
figcaption, .explore fieldset, .cell_input, .cell_output:not(:has(img, table)), .margin, aside.margin,
.admonition:not(.proof), .proof:not(.theorem, .proposition, .corollary, .lemma, .definition),
article p:not(:has(strong), section section:not(:has(> p strong)) > p:last-of-type,
  :is(h2, h3) + *, :is(h2, h3) + .cell + *, li *, .proof *, blockquote *, :is(td, th) *),
section:is([id$="check-yourself"], [id$="exercises"], [id$="references"], [id$="solutions"]) {
  display: none !important
}
h2, h3 { margin-top: 0 !important }
.bd-article .explore img { width: 100%; display: block !important }
"""
FOOTER = '<div style="font-size: 8px; width: 100%; text-align: center"><span class="pageNumber"></span></div>'
WIDE = """() => [...document.querySelectorAll('article *')].filter(node =>
    node.getBoundingClientRect().right > document.documentElement.clientWidth + 2 && node.getClientRects().length
    && !node.closest('mjx-assistive-mml')).map(node => node.outerHTML.slice(0, 160))"""


def chromium():
    """The program of the system that prints and shows pages, or None; nothing is downloaded."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def pages():
    """The pages that are printed, as paths without suffix: the landing page and the first part."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    return [toc["root"]] + [chapter["file"] for chapter in toc["parts"][0]["chapters"]]


def joined(html, names, style=""):
    """One page of HTML from the built ones in the folder `html`, for a place beside them."""
    site = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["html"]["baseurl"]
    texts = {name: BeautifulSoup((html / f"{name}.html").read_text(encoding="utf-8"), "html.parser") for name in names}
    prefix = {name: name.rpartition("/")[2] for name in names}

    def moved(name, link):
        """Where a link of one page leads in the joined one: inside it, or to the book on the web."""
        if re.match(r"[a-z]+:", link):
            return link
        page, anchor = urldefrag(urljoin(f"{name}.html", link))
        target = page.removesuffix(".html")
        if target in prefix:
            return f"#{prefix[target]}-{anchor}" if anchor else f"#{prefix[target]}"
        return urljoin(site, page) + f"#{anchor}" * bool(anchor)

    head, articles = texts[names[0]].head, []
    for script in head.find_all("script"):
        if "athjax" not in str(script).lower():
            script.decompose()
    for link in head.find_all("link"):
        if "stylesheet" not in link.get("rel", []):
            link.decompose()
    for key in ("src", "href"):
        for node in head.find_all(attrs={key: True}):
            node[key] = urljoin(f"{names[0]}.html", node[key])
    head.append(BeautifulSoup(f"<style>{STYLE}{style}</style>", "html.parser"))
    for name, text in texts.items():
        article = text.select_one("article.bd-article")
        for node in article.find_all(id=True):
            node["id"] = f"{prefix[name]}-{node['id']}"
        for node in article.find_all("a", href=True):
            node["href"] = moved(name, node["href"])
        for node in article.find_all("img", src=True):
            node["src"] = urljoin(f"{name}.html", node["src"])
            node.attrs.pop("loading", None)
        for node in article.find_all("details"):
            node["open"] = ""
        article["id"] = prefix[name]
        articles.append(str(article))
    return f'<!DOCTYPE html>\n<html lang="en" data-theme="light">{head}<body>{"".join(articles)}</body></html>'


def print_pages(browser, html, target, names, style=""):
    """Print pages, joined, to the file `target`; return what is wider than the paper: then nothing is printed."""
    whole = html / "print.html"
    whole.write_text(joined(html, names, style), encoding="utf-8")
    page = browser.new_page(viewport={"width": WIDTH, "height": 1000})
    try:
        page.emulate_media(media="print", color_scheme="light")
        page.goto(whole.as_uri())
        page.evaluate("MathJax.startup.promise")
        if wide := page.evaluate(WIDE):
            return wide
        page.pdf(path=target, prefer_css_page_size=True, print_background=True, outline=True, tagged=True,
                 display_header_footer=True, header_template="<span></span>", footer_template=FOOTER)  # fmt: skip
        return []
    finally:
        page.close()
        whole.unlink()


def main():
    if chromium() is None:
        return "make pdf prints with Chromium, which is not on this machine: install chromium or google-chrome"
    if status := build():
        return status
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        html, (first, *chapters) = ROOT / "_build" / "html", pages()
        wide = print_pages(browser, html, OUT, [first, *chapters])
        SLIDES_OUT.mkdir(exist_ok=True)
        for name in chapters:
            target = SLIDES_OUT / f"{name.rpartition('/')[2]}.pdf"
            wide += print_pages(browser, html, target, [name], SLIDES)
        browser.close()
    if wide:
        return "\n".join(["wider than the paper:", *wide])
    print(f"The core course is printed: {OUT}, and slides: {SLIDES_OUT}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
