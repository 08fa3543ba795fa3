"""The promises of the built pages: links lead somewhere, nothing is loaded, mathematics is set, any width will do, and
who sees or hears them otherwise can use them, too.
"""

import doctest
import functools
import re
from html.parser import HTMLParser
from urllib.parse import unquote, urldefrag, urlsplit

import exports
import lint
import pdf
import plain
import pytest
import yaml
from chapters import ROOT

# Void elements have no end tag; what a page loads by itself stands in these attributes.
LOADED = dict.fromkeys(("script", "img", "iframe", "source", "video", "audio", "embed"), "src") | {"object": "data"}
LOADED_LINKS = {"stylesheet", "preload", "modulepreload", "icon", "shortcut", "manifest", "preconnect", "dns-prefetch"}


class Page(HTMLParser):
    """The links, anchors and loaded resources of one page, and whether it has mathematics."""

    def __init__(self, path):
        super().__init__()
        self.links, self.anchors, self.loads, self.math = [], set(), [], 0
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.anchors |= {attrs[name] for name in ("id", "name") if attrs.get(name)}
        if tag == "a" and attrs.get("href"):
            self.links.append(attrs["href"])
        if attrs.get(LOADED.get(tag)):
            self.loads.append(attrs[LOADED[tag]])
        if tag == "link" and LOADED_LINKS & set((attrs.get("rel") or "").split()):
            self.loads.append(attrs["href"])
        if "math" in (attrs.get("class") or "").split():
            self.math += 1


@functools.cache
def parsed(path):
    return Page(path)


def documents():
    """The pages of the table of contents, as paths without suffix."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    return [toc["root"]] + [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]


DOCUMENTS = [pytest.param(name, id=name.removeprefix("book/")) for name in documents()]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_no_dead_internal_link(name, book_html):
    page = book_html / f"{name}.html"
    dead = []
    for link in parsed(page).links:
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            continue
        address, anchor = urldefrag(link)
        target = (page.parent / unquote(urlsplit(address).path)).resolve() if address else page
        if not target.is_file():
            dead.append(link)
        elif anchor and target.suffix == ".html" and unquote(anchor) not in parsed(target).anchors | {"top"}:
            dead.append(link)
    assert dead == []


def test_every_page_loads_only_what_the_book_carries(book_html):
    pages = [path for path in book_html.rglob("*.html") if "_static" not in path.parts]
    assert len(pages) > len(DOCUMENTS)
    foreign = [(path.name, load) for path in pages for load in parsed(path).loads if re.match(r"(https?:)?//", load)]
    assert foreign == []
    styles = [path for path in book_html.rglob("*.css")]
    foreign = [
        (path.name, found)
        for path in styles
        for found in re.findall(r"url\([\"']?((?:https?:)?//[^)]+)|@import[^;]*//[^;]*", path.read_text())
    ]
    assert foreign == []


def test_index_leads_to_the_landing_page(book_html):
    assert f"{documents()[0]}.html" in (book_html / "index.html").read_text()


def test_chapters_have_launch_buttons_for_their_notebooks(book_html):
    from chapters import chapters

    for path in chapters():
        name = path.relative_to(ROOT).with_suffix("").as_posix()
        links = parsed(book_html / f"{name}.html").links
        for host in ("colab.research.google.com", "mybinder.org"):
            found = [link for link in links if urlsplit(link).hostname == host and link.endswith(f"{name}.ipynb")]
            assert found, (name, host)


def test_text_of_the_book_is_in_order():
    assert lint.main() == 0


def test_torch_primer_says_what_torch_says():
    blocks = re.findall(r"^```python\n(.+?)^```", (ROOT / "book/reference/torch.md").read_text(), re.M | re.S)
    lines = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, "torch.md", None, 0)
    assert doctest.DocTestRunner().run(lines).failed == 0
    assert len(lines.examples) > 15


def test_glossary_is_in_order():
    page = (ROOT / "book/reference/glossary.md").read_text()
    words = [word.lower().replace("ö", "o") for word in re.findall(r"[}\n]\n(\w.*)\n(?:\w.*\n)* {2}", page)]
    assert len(words) > 40
    assert words == sorted(words)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("text\n$$\nx\n$$\n", 1),
        ("text\n\n$$\nx\n$$\n", 0),
        ("text\n\n$$ x $$ (eq-a)\n", 0),
        ("text $$x$$ text\n", 1),
        ("text\n\n$$\nx\n", 1),
        ("a \\(x\\) b\n", 1),
        ("```python\nprint('$$')\n```\n", 0),
        ("![](picture.png)\n", 1),
    ],
)
def test_lint_finds_what_goes_wrong_silently(text, number):
    assert len(lint.problems(text)) == number


def test_lint_finds_code_that_does_not_fit():
    line = "x = " + "1" * 72
    cell = "A\n\n```{{code-cell}} ipython3\n{}y = 1\n{}\n```\n"
    assert list(lint.wide(cell.format(":tags: [hide-input]\n\n", line))) == []
    ((number, message),) = lint.wide(cell.format("", line))
    assert number == 5
    assert "76 characters" in message
    assert list(lint.wide(cell.format("", line[:-1]))) == []
    assert [number for number, _ in lint.wide(f"```python\n{line}\n```\n")] == [2]


def test_lint_finds_chapters_that_show_too_many_asserts():
    def chapter(asserts, *head):
        lines = ["x = 1  # assert", *["assert (\n    x\n)"] * asserts, *["x = 2"] * (99 - 3 * asserts), "# assert"]
        cell = "\n".join(["```{code-cell} ipython3", *head, *lines, "```"])
        return f"A\n\n{cell}\n\n## Exercises\n\n```python\nassert x\n```\n"

    assert lint.count_asserts(chapter(4)) == (12, 100)
    assert lint.count_asserts(chapter(4, ":tags: [remove-cell]", "")) == (0, 0)
    assert list(lint.too_many_asserts({"a": chapter(4), "b": chapter(0), "c": chapter(0)})) == []
    (message,) = lint.too_many_asserts({"a": chapter(5), "b": chapter(0), "c": chapter(0)})
    assert message.startswith("a: 15 of 100 ")
    (message,) = lint.too_many_asserts({"a": chapter(4), "b": chapter(0)})
    assert message.startswith("book: 12 of 200 ")


# --- in a browser ------------------------------------------------------------


@pytest.fixture(scope="module", params=[(1280, 900), (390, 844)], ids=["desktop", "phone"])
def window(request, browser):
    width, height = request.param
    context = browser.new_context(viewport={"width": width, "height": height}, offline=True)
    yield context
    context.close()


def opened(context, path):
    """The page after MathJax has set it, and what the console and the network complained about."""
    page = context.new_page()
    problems = []
    page.on("console", lambda message: message.type in ("error", "warning") and problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("requestfailed", lambda request: problems.append(f"not loaded: {request.url}"))
    page.goto(path.as_uri(), wait_until="load")
    # Pictures further down load as they come into view; the test wants all of them.
    page.evaluate("document.querySelectorAll('img').forEach(image => image.loading = 'eager')")
    # So is what a reader may open: solutions, folded cells.
    page.evaluate(
        """() => {
            document.querySelectorAll('details').forEach(node => node.open = true)
            document.querySelectorAll('.toggle-hidden').forEach(node => node.classList.remove('toggle-hidden'))
        }"""
    )
    if parsed(path).math:
        page.wait_for_function("window.MathJax && MathJax.startup && MathJax.startup.promise")
        page.evaluate("MathJax.startup.promise")
    return page, problems


@pytest.mark.parametrize("name", DOCUMENTS)
def test_page_in_a_browser(name, book_html, window):
    path = book_html / f"{name}.html"
    page, problems = opened(window, path)
    try:
        page.wait_for_function("[...document.images].every(image => image.complete)")
        broken = page.evaluate("[...document.images].filter(image => !image.naturalWidth).map(image => image.src)")
        assert broken == []

        wide = page.evaluate(
            """() => {
                const width = document.documentElement.clientWidth
                if (document.documentElement.scrollWidth <= width) return []
                const boxed = node => {
                    while ((node = node.parentElement))
                        if (getComputedStyle(node).overflowX !== 'visible') return node.clientWidth < width
                }
                return [...document.querySelectorAll('body *')]
                    .filter(node => node.getBoundingClientRect().right > width + 1 && !boxed(node))
                    .map(node => node.outerHTML.slice(0, 160)).slice(0, 5).concat(['page is wider than the window'])
            }"""
        )
        assert wide == []

        # Nothing that is wider than its box may be cut off: the box must scroll.
        cut = page.evaluate(
            """() => [...document.querySelectorAll(
                '.bd-article :is(div.math, mjx-container, table, pre, .cell_output, img)'
            )].filter(node => {
                    for (let box = node; box.matches && !box.matches('.bd-article'); box = box.parentElement) {
                        const style = getComputedStyle(box)
                        if (['auto', 'scroll'].includes(style.overflowX)) return false
                        const over = box.scrollWidth > box.clientWidth + 1
                        if (over && ['hidden', 'clip'].includes(style.overflowX)) return true
                    }
                    return false
                }).map(node => node.outerHTML.slice(0, 160)).slice(0, 5)"""
        )
        assert cut == []

        assert page.locator("mjx-container").count() >= parsed(path).math
        assert page.locator("mjx-merror, merror, .MathJax_Error").count() == 0
        # What MathJax missed is still there as it was typed. Code may contain dollars, text may not.
        text = page.evaluate(
            """() => {
                const copy = document.querySelector('.bd-article').cloneNode(true)
                copy.querySelectorAll('pre, code, mjx-container, script, style').forEach(node => node.remove())
                return copy.textContent
            }"""
        )
        assert re.findall(r"\$\$|\\\(|\\\[|\\begin\{|\\(?:frac|mathbb|sum|hat)\b", text) == []
        # Directives and roles that nothing understood
        assert re.findall(r":::|\{(?:math|ref|numref|cite|doc|prf:ref|eq|admonition)[:\w]*\}", text) == []
        assert problems == []
        if page.viewport_size["width"] > 1000:
            assert faults(page) == []
    finally:
        page.close()


def faults(page):
    """What axe finds of WCAG 2.1 AA, with everything open that a reader may open; in the dark, colours alone can be wrong."""
    axe = pytest.importorskip(
        "axe_playwright_python.base", reason="axe-playwright-python, of the extra test, is not here"
    )
    page.evaluate(axe.AXE_SCRIPT)
    found = []
    for scheme, rules in (
        ("light", "'wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa'"),
        ("dark", "'color-contrast', 'link-in-text-block'"),
    ):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_function(f"document.documentElement.dataset.theme === '{scheme}'")
        page.wait_for_timeout(800)  # the theme fades its colours, and looks for what scrolls
        for fault in page.evaluate(f"axe.run({{runOnly: [{rules}]}})")["violations"]:
            found += [
                f"{fault['id']}, {scheme}: {node['html'][:160]} {node['failureSummary']}" for node in fault["nodes"]
            ]
    return found


@pytest.mark.parametrize("name", ["two_companies", "local_weights", "simulations", "digits"])
def test_dials_turn_by_keyboard_without_a_script(name, book_html, browser):
    """One picture shows, the arrow keys bring the next, and the whole is no heavier than a photograph."""
    context = browser.new_context(java_script_enabled=False, offline=True)
    page = context.new_page()
    page.goto((book_html / f"book/core/{name}.html").as_uri())
    try:
        for box in page.locator(".explore").all():
            assert len(box.inner_html()) < 300_000
            before = [image for image in box.locator("img").all() if image.is_visible()]
            assert len(before) == 1
            box.locator("input:checked").last.press("ArrowRight")
            after = [image for image in box.locator("img").all() if image.is_visible()]
            assert len(after) == 1
            alts = [images[0].get_attribute("alt") for images in (before, after)]
            assert all(alts)
            assert alts[0] != alts[1]
        assert page.locator(".explore").count() == 1
    finally:
        context.close()


def test_search_works_offline_and_finds_the_words_of_the_glossary(book_html, browser):
    context = browser.new_context(offline=True)
    page = context.new_page()
    page.goto((book_html / "search.html").as_uri() + "?q=simplex")
    ask = "word => Search._performSearch(...Search._parseQuery(word)).map(found => found[0])"
    try:
        page.wait_for_selector("#search-results li a", timeout=10_000)
        found = {word: page.evaluate(ask, word) for word in plain.words()}
    finally:
        context.close()
    assert [word for word, pages in found.items() if "book/reference/glossary" not in pages] == []


def test_answers_of_a_quiz_open_by_keyboard_without_a_script(book_html, browser):
    context = browser.new_context(java_script_enabled=False, offline=True)
    page = context.new_page()
    page.goto((book_html / "book/core/two_companies.html").as_uri())
    try:
        quiz = page.locator("section[id='check-yourself'] details")
        assert quiz.count() >= 10
        first = quiz.first.locator("summary")
        first.focus()
        for number in range(3):
            answer = quiz.nth(number)
            assert answer.get_attribute("open") is None
            page.keyboard.press("Enter" if number % 2 else "Space")
            assert answer.get_attribute("open") is not None
            assert answer.locator("p").first.is_visible()
            page.keyboard.press("Tab")
    finally:
        context.close()


def test_no_page_is_too_heavy_for_a_phone(book_html):
    """Before its pictures, which load as they come into view."""
    sizes = {name: (book_html / f"{name}.html").stat().st_size for name in documents()}
    assert max(sizes.values()) < 1_500_000, sizes


def test_links_of_the_notebooks_lead_to_places_of_the_pages(book_html):
    """To the anchors, too; a label has the number there that the notebook gives it."""
    for label, (_, address, said) in plain.places().items():
        name, _, anchor = address.removeprefix(plain.SITE).partition("#")
        _, found, after = (book_html / name).read_text(encoding="utf-8").partition(f'id="{anchor}"')
        assert found, label
        assert said.startswith("Heading") or said in after[:4000], label
    glossary = parsed(book_html / "book/reference/glossary.html").anchors
    assert {address.partition("#")[2] for address in plain.words().values()} <= glossary


def test_api_page_has_an_anchor_for_every_export(book_html):
    anchors = parsed(book_html / f"{exports.PAGE}.html").anchors
    names = {f"{door}.{name}" for door, names in exports.exports().items() for name in names}
    assert names - anchors == set()


def test_core_course_prints_on_paper(book_html, browser, tmp_path):
    """Links lead to places of the same document or to the web, nothing is wider than the paper, and every chapter is there."""
    (joined := tmp_path / "joined.html").write_text(pdf.joined(book_html, pdf.pages()))
    page = parsed(joined)
    inside = [link[1:] for link in page.links if link.startswith("#")]
    assert {name.rpartition("/")[2] for name in pdf.pages()[1:]} <= set(inside)
    assert [link for link in inside if unquote(link) not in page.anchors] == []
    assert {urlsplit(link).scheme for link in page.links if not link.startswith("#")} <= {"http", "https"}
    target = tmp_path / "core.pdf"
    assert pdf.print_pages(browser, book_html, target, pdf.pages()) == []
    pages = max(map(int, re.findall(rb"/Count (\d+)", target.read_bytes())))
    assert 100 < pages < 400
    assert not (book_html / "print.html").exists()


def test_teachers_find_the_slides_of_each_core_chapter():
    """The workflow of the pages puts them there."""
    page = (ROOT / "book/reference/teaching.md").read_text(encoding="utf-8")
    linked = re.findall(rf"\({re.escape(plain.SITE)}slides/(\w+)\.pdf\)", page)
    assert linked == [name.rpartition("/")[2] for name in pdf.pages()[1:]]
    assert (
        "cp -r _build/slides _build/localma-core.pdf _build/html/" in (ROOT / ".github/workflows/pages.yml").read_text()
    )


def test_slides_show_theorems_and_no_heading_alone(book_html, browser):
    """And the question that a chapter opens with."""
    (joined := book_html / "slides.html").write_text(pdf.joined(book_html, pdf.pages()[1:], pdf.SLIDES))
    page = browser.new_page()
    page.emulate_media(media="print")
    page.goto(joined.as_uri())
    empty = """css => [...document.querySelectorAll(css)].filter(node => ![...node.children].some((child, k) =>
        (k || !/^H/.test(child.tagName)) && child.getBoundingClientRect().height)).map(node => node.id || node.className)"""
    shown = ":not(:is([id$='check-yourself'], [id$='exercises'], [id$='references'], [id$='solutions']))"
    joined.unlink()
    assert page.locator(".proof:is(.theorem, .proposition)").count() > 5
    # a section without a sentence in bold shows its last paragraph, which has the answer
    gone = ":is([id$='check-yourself'], [id$='exercises'], [id$='references'], [id$='solutions'])"
    plain_ones = f"section section:not({gone}, {gone} *, :has(> p strong)) > p:last-of-type"
    heights = "nodes => nodes.map(node => node.getBoundingClientRect().height)"
    assert min(page.locator(plain_ones).evaluate_all(heights)) > 0
    assert (
        page.evaluate(empty, ".proof:is(.theorem, .proposition), blockquote, section:has(> :is(h2, h3))" + shown) == []
    )
    page.close()
