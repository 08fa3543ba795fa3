"""Housing: the tables as they are read."""

import os

import numpy as np
import pytest

from localma.datasets import housing as data_module
from localma.datasets import load_housing
from tests.rents import paper_csv


@pytest.fixture
def four_rows(monkeypatch):
    """The paper's table as if it had no more rows than ``paper_csv``."""
    monkeypatch.setitem(data_module.ROWS, "paper", 4)


@pytest.mark.usefixtures("four_rows")
def test_paper_table_is_read_as_it_comes(tmp_path):
    data = load_housing("paper", path=paper_csv(tmp_path))
    assert data.city.tolist() == ["Beijing", "Shanghai", "Shanghai"], "Shenzhen is not in the paper"
    assert data.district.tolist() == ["Haidian", "Pudong", "Minhang"]
    assert data.features == (
        "rooms", "restrooms", "living_rooms", "area", "total_floor", "bed", "wardrobe", "air_conditioner", "gas", "schools",
    )  # fmt: skip
    np.testing.assert_allclose(data.X[1], [2, 1, 1, 60.5, 18, 0, 0, 1, 0, 8])
    assert data.rent.tolist() == [5000, 6000, 8000]
    assert np.isnan(data.coordinates[2]).all(), "far outside the city"
    assert not data.synthetic
    assert data.banner == ""


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"周边学校个数": None}, ["周边学校个数", "idatascience"]),
        ({"区": ["海淀", "浦东", "南山", "Narnia"]}, ["Narnia", "Pudong|浦东", "column '区', row 5", "leave it empty"]),
        ({"面积": [40, 60, 90, "seventy"]}, ["面积", "row 5", "seventy", "write plain numbers"]),
        ({"面积": [40, -3e38, 90, 70]}, ["面积", "row 3", "-3e.38.* is not a number of a flat"]),
        ({"价格": ["5000", "27,000", "7000", "8000"]}, ["价格", "row 3", "27,000", "write plain numbers"]),
        ({"城市": ["深圳"] * 4}, ["Beijing or Shanghai", "column '城市'.*北京.*but of Shenzhen", "idatascience"]),
        (
            {"价格": [0, None, 7000, float("inf")]},
            ["column '价格'.*no row of Beijing or Shanghai has a rent.*plain numbers"],
        ),
    ],
)
@pytest.mark.usefixtures("four_rows")
def test_errors_name_the_column_and_the_way_out(changes, words, tmp_path):
    place = paper_csv(tmp_path, **changes)
    for word in words:
        with pytest.raises(ValueError, match=word):
            load_housing("paper", path=place)


@pytest.mark.usefixtures("four_rows")
def test_rents_without_bound_and_districts_without_name(tmp_path):
    data = load_housing(
        "paper", path=paper_csv(tmp_path, **{"价格": [5000, float("inf"), 7000, 8000], "区": [None] * 4})
    )
    assert data.rent.tolist() == [5000, 8000]
    assert data.ceiling == np.quantile([5000, 7000, 8000], 0.99)
    assert data.district.tolist() == ["", ""]


def test_the_papers_table_has_all_of_its_rows(tmp_path):
    assert data_module.ROWS["paper"] == 18_886
    with pytest.raises(
        ValueError,
        match=(
            r"数据集\.csv has 4 rows, but the table 'paper' has 18,886: half a download.*download it"
            r" again.*idatascience"
        ),
    ):
        load_housing("paper", path=paper_csv(tmp_path))


@pytest.mark.parametrize(("separator", "name"), [(";", "';'"), ("\t", "tabs")])
def test_another_separator_is_named(separator, name, tmp_path):
    place = paper_csv(tmp_path)
    place.write_bytes(place.read_bytes().replace(b",", separator.encode()))
    with pytest.raises(ValueError, match=rf"has a single column.*separated by {name}\? Save it with commas"):
        load_housing("paper", path=place)


def test_half_a_download_is_named(tmp_path):
    place = tmp_path / "half.csv"
    place.write_bytes(b"")
    with pytest.raises(ValueError, match=r"half\.csv cannot be read.*half a download"):
        load_housing("paper", path=place)
    place = tmp_path / "bj_sh_lianjia_ids.csv.gz"
    place.write_bytes(b"\x1f\x8b not all of it")
    with pytest.raises(ValueError, match=r"checksum.*half a download"):
        load_housing(path=tmp_path)


def test_without_the_data_the_error_says_where_to_get_it(nowhere):
    with pytest.raises(FileNotFoundError, match=r"LOCALMA_DATA.*synthetic=True"):
        load_housing()
    with pytest.raises(FileNotFoundError, match="idatascience"):
        load_housing("paper")
    for table, source in (
        ("lianjia2023", "heyewuyue1/PythonCorseWork"),
        ("lianjia2019", "Penkace/lianjiawang"),
        ("coordinates", "house-rent"),
    ):
        with pytest.raises(
            FileNotFoundError, match=rf"{source} at commit [0-9a-f]{{40}}.*No licence is stated.*carries no copy"
        ):
            load_housing(table)
    with pytest.raises(ValueError, match=r"table must be one of 'lianjia2023', .* but is 'shenzhen'"):
        load_housing("shenzhen")


@pytest.mark.skipif("LOCALMA_DATA" not in os.environ, reason="the rents are not here: LOCALMA_DATA is not set")
@pytest.mark.parametrize(
    ("table", "rows", "covariates"), [("lianjia2023", 48685, 7), ("lianjia2019", 2652, 8), ("coordinates", 10201, 2)]
)
def test_real_tables(table, rows, covariates):
    data = load_housing(table)
    assert data.X.shape == (rows, covariates)
    assert (data.rent > 0).all()
    for name in set(data.city):
        assert np.isfinite(data.only(name).X).all()


def test_synthetic_rents_say_so():
    flats = load_housing(synthetic=True)
    assert flats.synthetic
    assert "SYNTHETIC" in flats.banner
    with pytest.raises(ValueError, match=r"Nanjing.*Beijing, Shanghai"):
        flats.only("Nanjing")
