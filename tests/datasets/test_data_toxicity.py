"""The toxicity data: read as they should be, refused when they are not, and made up only when asked for."""

import os
import re

import pandas as pd
import pytest

from localma.datasets import load_toxicity
from localma.datasets import toxicity as module
from localma.datasets.find import Source, find


@pytest.fixture
def nowhere(nowhere, monkeypatch):
    """And no network."""
    monkeypatch.setattr(module, "ADDRESS", "http://127.0.0.1:0/{code}.parquet")
    return nowhere


@pytest.fixture
def collected(nowhere, monkeypatch):
    """A small file in the collected form, with its own checksum."""
    rows = [("en", f"sentence {i}", i % 2, "textdetox2024", 0) for i in range(6)]
    rows += [("fr", f"phrase {i} null", int(i < 5), "a", 0) for i in range(8)]  # five toxic, three not
    rows += [("fr", f"mot {i}", int(i < 1), "b", 0) for i in range(4)] + [("fr", "mot 0", 0, "b", 1)]
    rows += [("fr", f"cri {i}", 1, "c", 0) for i in range(3)]  # toxic ones alone
    rows += [("he", "null", 1, "olah2000", 0), ("he", "null", 1, "olah2000", 1), ("he", "NA", 0, "olah2000", 0)]
    place = nowhere / "toxicity" / "toxicity.csv.gz"
    place.parent.mkdir()
    pd.DataFrame(rows, columns=["lang", "text", "toxic", "source", "dup"]).to_csv(place, index=False)
    monkeypatch.setattr(module, "COLLECTED", Source(module.COLLECTED.name, advice=module.ADVICE))
    return place


def test_collected_rows(collected):
    data = load_toxicity(["en", "he"], path=collected)
    assert (len(data), data.origin, data.synthetic, data.banner) == (9, "collected", False, "")
    assert list(data.text[6:]) == ["null", "null", "NA"], "texts that look like missing values are texts"
    hebrew = data.only("he")
    assert list(hebrew.take(hebrew.unrepeated()).text) == ["null", "NA"]
    assert list(data.toxic[:6]) == [0, 1, 0, 1, 0, 1]


def test_french_is_balanced_within_each_source(collected):
    french = load_toxicity(["fr"], path=collected.parent.parent)
    for word, of_each in (("phrase", 3), ("mot", 1), ("cri", 0)):  # what names the source
        of_source = french.toxic[[word in text for text in french.text]]
        assert [of_source.sum(), (1 - of_source).sum()] == [of_each, of_each]
    assert len(set(french.text)) == len(french), "repeats are dropped first"
    again, other = load_toxicity(["fr"], path=collected), load_toxicity(["fr"], path=collected, seed=1)
    assert list(again.text) == list(french.text) != list(other.text)


def test_a_missing_file_is_named(nowhere):
    with pytest.raises(
        FileNotFoundError, match=r"toxicity\.csv\.gz was not found.*textdetox.*LOCALMA_DATA.*synthetic=True"
    ):
        load_toxicity()
    with pytest.raises(
        FileNotFoundError,
        match=r"toxicity\.csv\.gz was not found.*download from http://127\.0\.0\.1:0/zh\.parquet failed",
    ):
        load_toxicity()
    with pytest.raises(FileNotFoundError, match=r"toxicity\.csv\.gz was not found; looked for [^;]*$"):
        load_toxicity(path=nowhere)  # as given or not at all
    assert load_toxicity(["he"], synthetic=True).synthetic, "made up only when asked for"


def test_another_version_of_the_collected_file_is_refused(nowhere):
    place = nowhere / "toxicity.csv.gz"
    place.write_bytes(b"half")
    with pytest.raises(ValueError, match=r"toxicity\.csv\.gz has the sha256.*half a download"):
        load_toxicity(path=place)


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("toxic", None, r"no column 'toxic'.*it has"),
        ("toxic", "yes", r"column 'toxic'.*row 2 has 'yes'"),
        ("dup", None, r"no column 'dup'"),
    ],
)
def test_columns_are_checked(collected, column, values, message):
    frame = pd.read_csv(collected, keep_default_na=False)
    frame = frame.drop(columns=column) if values is None else frame.assign(**{column: values})
    frame.to_csv(collected, index=False)
    with pytest.raises(ValueError, match=message):
        load_toxicity(["en"], path=collected)


def test_half_a_gzip_file_is_refused(collected):
    collected.write_bytes(collected.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"toxicity\.csv\.gz cannot be read.*half a download"):
        load_toxicity(["en"], path=collected)


def test_unknown_languages_are_named(collected):
    with pytest.raises(ValueError, match=r"language 'klingon' is not known; choose from zh, en"):
        load_toxicity(["klingon"], path=collected)
    with pytest.raises(ValueError, match=r"language 'fr' is not among the 9 rows; there are en, he"):
        load_toxicity(["en", "he"], path=collected).only("fr")


def test_a_string_is_a_list_of_one(collected):
    assert list(load_toxicity("he", path=collected).text) == list(load_toxicity(["he"], path=collected).text)
    assert set(load_toxicity("he", synthetic=True).language) == {"he"}


def test_a_language_twice_is_refused():
    with pytest.raises(ValueError, match=r"language 'en' is named twice.*name each language once"):
        load_toxicity(["en", "he", "en"])


@pytest.fixture
def own(nowhere, monkeypatch):
    """The data set's own files for two languages, small ones, and a card that describes them."""
    monkeypatch.setitem(module.CARD, "en", ("English", 4, 2, 8))
    monkeypatch.setitem(module.CARD, "he", ("Hebrew", 2, None, 8))
    folder = nowhere / "data" / "toxicity" / "textdetox"
    folder.mkdir(parents=True)
    pd.DataFrame({"text": ["aa", "bb", "cc", "dd"], "toxic": [0, 1, 0, 1]}).to_csv(folder / "en.csv", index=False)
    pd.DataFrame({"text": ["של", "אב"], "toxic": [0, 1]}).to_csv(folder / "he.csv", index=False)
    monkeypatch.setenv("LOCALMA_DATA", str(nowhere / "data"))
    return folder


def test_own_files_are_known_by_their_content(own):
    data = load_toxicity(["he", "en"])
    assert (list(data.language), data.origin) == (["he", "he", "en", "en", "en", "en"], "textdetox")
    assert len(data.checksum.split("+")) == 2
    assert list(load_toxicity(["en"], path=own).text) == ["aa", "bb", "cc", "dd"]


def test_own_files_in_the_folder_come_before_the_collected_one_in_the_cache(own, nowhere):
    """Place by place: what lies damaged in a later one is nobody's concern; in one and the same place the collected
    file comes first.
    """
    for folder in ("cache", "data"):
        place = nowhere / folder / module.COLLECTED.name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(b"half a file")
        if folder == "cache":
            assert load_toxicity(["he", "en"]).origin == "textdetox"
    with pytest.raises(ValueError, match="damaged, half a download or another version"):
        load_toxicity(["he", "en"])


@pytest.mark.parametrize(
    ("texts", "toxic", "message"),
    [
        (["aa", "bb", "cc"], [0, 1, 1], r"3 rows, but the data set's English has 4"),
        (["aa", "bb", "cc", "dd"], [0, 0, 0, 1], r"1 toxic rows, but .* has 2"),
        (["aa", "bb", "cc", "dé"], [0, 1, 0, 1], r"9 bytes of text, but .* has 8: half a download or another version"),
    ],
)
def test_other_own_files_are_refused(own, texts, toxic, message):
    pd.DataFrame({"text": texts, "toxic": toxic}).to_csv(own / "en.csv", index=False)
    with pytest.raises(ValueError, match=message):
        load_toxicity(["en"])


@pytest.mark.parametrize("languages", [["en", "uk"], ["uk", "en"]])
def test_one_own_file_that_is_missing_is_named(own, languages):
    with pytest.raises(
        FileNotFoundError,
        match=r"file for Ukrainian is not beside the others: uk-00000-of-00001\.parquet.*download.*failed",
    ):
        load_toxicity(languages)
    with pytest.raises(
        FileNotFoundError,
        match=r"file for Ukrainian is not beside the others: uk-00000-of-00001\.parquet was not found",
    ):
        load_toxicity(languages, path=own)


@pytest.mark.parametrize("name", ["en.parquet", "en-00000-of-00001.parquet", "en.csv"])
def test_one_own_file_as_the_path_is_refused(own, name):
    (own / "en.csv").rename(own / name)
    with pytest.raises(
        ValueError, match=rf"{name} is one language of the data set; give the folder that holds it, {own}"
    ):
        load_toxicity(["en"], path=own / name)


def test_own_files_are_downloaded_and_checked_by_their_content(own, nowhere, monkeypatch):
    """A server, and a reader of parquet files that reads CSV, so that pyarrow need not be here."""
    import shutil

    asked = []

    def download(source, place):
        asked.append(source.url)
        place.parent.mkdir(parents=True, exist_ok=True)
        return shutil.copy(own / "en.csv", place)

    monkeypatch.delenv("LOCALMA_DATA")
    monkeypatch.setattr("localma.datasets.find._download", download)
    monkeypatch.setattr(pd, "read_parquet", pd.read_csv)
    data = load_toxicity(["en"])
    assert (len(data), data.origin, asked) == (4, "textdetox", ["http://127.0.0.1:0/en.parquet"])
    assert len(load_toxicity(["en"])) == len(asked) + 3 == 4, "the second time nothing is fetched"
    with pytest.raises(
        ValueError, match=r"cache.*he-00000.*has 4 rows, but the data set's Hebrew has 2.*remove it and try again"
    ):
        load_toxicity(["he"])


def test_the_address_is_of_one_state():
    assert re.fullmatch(
        r"https://huggingface\.co/datasets/textdetox/\w+/resolve/[0-9a-f]{40}/data/\{code\}-00000-of-00001\.parquet",
        module.ADDRESS,
    )


def test_own_files_of_chinese_spreadsheets(own, monkeypatch):
    monkeypatch.setitem(module.CARD, "zh", ("Chinese", 2, 1, 12))
    frame = pd.DataFrame({"text": ["中国", "你好"], "toxic": [0, 1]})
    frame.to_csv(own / "zh.csv", index=False, encoding="gb18030")
    assert list(load_toxicity(["zh"]).text) == ["中国", "你好"]
    for separator, name in ((";", "';'"), ("\t", "tabs")):
        frame.assign(text=["a, b, c", "d"]).to_csv(own / "zh.csv", index=False, sep=separator)
        with pytest.raises(
            ValueError, match=rf"zh\.csv has a single column.*separated by {name}\? Save it with commas"
        ):
            load_toxicity(["zh"])


def test_half_a_parquet_file_is_named(own, monkeypatch):
    def cut(place):
        raise ValueError("no magic bytes")  # pyarrow's error is one of these

    (own / "en.csv").rename(own / "en.parquet")
    monkeypatch.setattr(pd, "read_parquet", cut)
    with pytest.raises(
        ValueError, match=r"en\.parquet cannot be read \(no magic bytes\): damaged or half a download\. Put"
    ):
        load_toxicity(["en"])


def test_parquet_without_its_reader_says_so(own):
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        (own / "en.csv").rename(own / "en.parquet")
        with pytest.raises(ValueError, match=r"pip install pyarrow, or save it as en\.csv"):
            load_toxicity(["en"])
    else:
        pytest.skip("pyarrow is installed")


def test_synthetic_sentences_say_what_they_are():
    data = load_toxicity(synthetic=True)
    assert data.synthetic
    assert "SYNTHETIC" in data.banner
    assert data.checksum == ""
    again = load_toxicity(["he"], synthetic=True)
    assert list(again.text) == list(data.only("he").text), "a language does not depend on the others asked for"
    assert list(again.text) != list(load_toxicity(["he"], synthetic=True, seed=1).text)
    assert all(abs(data.only(code).toxic.mean() - 0.5) < 0.01 for code in ("zh", "en", "fr", "uk", "he", "hi"))


def test_the_real_rows():
    try:
        find(module.COLLECTED)
    except FileNotFoundError:
        pytest.skip(f"toxicity.csv.gz is not here (LOCALMA_DATA is {os.environ.get('LOCALMA_DATA', 'not set')})")
    data = load_toxicity(list(module.LANGUAGES))
    count = pd.Series(data.language).value_counts()
    assert all(count[code] == 5000 for code in ("zh", "en", "uk", "hi", "am", "ar", "de", "es", "ru"))
    assert (count["he"], count["hin"], count["fr"]) == (2026, 4574, 3494)
    assert data.only("fr").toxic.mean() == 0.5
    for code in (
        "zh",
        "en",
        "hi",
        "am",
        "de",
        "es",
        "ru",
    ):  # the data set's own rows, byte for byte as its card counts them
        assert sum(len(text.encode()) for text in data.only(code).text) == module.CARD[code][3]
