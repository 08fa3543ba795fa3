"""Monthly rents in Beijing and Shanghai, for the paper's Section 5.1.

The paper's own table, number 100086 of idatascience.cn, asks for a download by hand. Three other tables stand in for
it: ``lianjia2023``, many rows with few covariates; ``lianjia2019``, few rows with eight of the paper's ten covariates;
``coordinates``, all rows of the paper's table, of which only rent, coordinates and district are known.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from localma.checks import choose
from localma.datasets.find import Data, Source, digest, find
from localma.datasets.tables import read_table, row_in_file

__all__ = ["ROWS", "TABLES", "Housing", "load_housing"]

_PAPER = (
    "The paper's table is number 100086 (中国租房信息数据集) at www.idatascience.cn: download it there by hand, put "
    "中国租房信息数据集.csv into a folder housing below the data folder, and ask for table='paper'."
)


def _advice(what: str) -> str:
    return (
        f"The file is {what} No licence is stated there, so this package carries no copy, and one made anew has another"
        f" checksum. {_PAPER}"
    )


#: File of each table.
TABLES = {
    "lianjia2023": Source(
        "housing/bj_sh_lianjia_ids.csv.gz",
        "sha256:dead7fb7085a8b47675b77337bc86db1d95a7630378f7aa7967b9f345efcb5b1",
        advice=_advice(
            "a collection of Lianjia's listings of 2023: data/bj.csv, joined on ID with data/floor.csv, and data/sh.csv"
            " of the GitHub repository heyewuyue1/PythonCorseWork at commit ce295d3daaf18a83d947eda679a7497143831250,"
            " with the district of each block looked up."
        ),
    ),
    "lianjia2019": Source(
        "housing/sh_lianjia2019_detail.csv",
        "sha256:35d41d32e1461b0c47e3a60333f605f9f7f1fe9e8c475cfcce5c885fdec06629",
        advice=_advice(
            "a table of Lianjia's pages of July 2019: house_whole_info.csv of the GitHub repository Penkace/lianjiawang"
            " at commit d0a1f2a463e24a56c07b3db12eb974b4f40ea731, with the covariates as numbers and without 14"
            " repeated rows."
        ),
    ),
    "coordinates": Source(
        "housing/source100086_rent_coords.csv.gz",
        "sha256:a24e5a39dfebd3962c072bf1cbb9c1ee2bd9a75c7bbb80d60443e947be903913",
        advice=_advice(
            "rents and coordinates out of the maps pic/beijing_heat.html, shanghai_heat.html and shenzhen_heat.html of"
            " the GitHub repository zixinzeng-jennifer/house-rent at commit 7f586076241aaffbc3c1ace82d83096c4e7eb785;"
            " districts by the polygons data/bj.geojson, sh.geojson and sz.geojson of Word2VecT/Lianjia-Spider-Demo at"
            " commit c26e48a08bb7d95efb5104f764adfd6df269bdec."
        ),
    ),
    "paper": Source("housing/中国租房信息数据集.csv", advice=_PAPER),
}
#: Rows of a table that has no checksum, those of other cities too.
ROWS = {"paper": 18_886}

#: Columns that a table must have: ours and the file's. Covariates in the order of :attr:`Housing.features`.
COVARIATES = {
    "lianjia2023": {
        name: name for name in ("rooms", "area", "total_floor", "faces_E", "faces_S", "faces_W", "faces_N")
    },
    "lianjia2019": {
        name: name
        for name in ("rooms", "living_rooms", "area", "total_floor", "bed", "wardrobe", "air_conditioner", "gas")
    },
    "coordinates": {"lng": "lng", "lat": "lat"},
    "paper": {
        "rooms": "室",
        "restrooms": "卫",
        "living_rooms": "厅",
        "area": "面积",
        "total_floor": "总楼层",
        "bed": "是否有床",
        "wardrobe": "是否有衣柜",
        "air_conditioner": "是否有空调",
        "gas": "是否有燃气",
        "schools": "周边学校个数",
    },
}
_CITIES = {"北京": "Beijing", "上海": "Shanghai", "深圳": "Shenzhen"}
# fmt: off
_DISTRICTS = {
    # of Beijing
    "东城": "Dongcheng", "丰台": "Fengtai", "亦庄开发": "Yizhuang", "大兴": "Daxing", "密云": "Miyun", "平谷": "Pinggu",
    "延庆": "Yanqing", "怀柔": "Huairou", "房山": "Fangshan", "昌平": "Changping", "朝阳": "Chaoyang",
    "海淀": "Haidian", "石景山": "Shijingshan", "西城": "Xicheng", "通州": "Tongzhou", "门头沟": "Mentougou",
    "顺义": "Shunyi",
    # of Shanghai
    "嘉定": "Jiading", "奉贤": "Fengxian", "宝山": "Baoshan", "崇明": "Chongming", "徐汇": "Xuhui", "普陀": "Putuo",
    "杨浦": "Yangpu", "松江": "Songjiang", "浦东": "Pudong", "虹口": "Hongkou", "金山": "Jinshan", "长宁": "Changning",
    "闵行": "Minhang", "闸北": "Zhabei", "青浦": "Qingpu", "静安": "Jingan", "黄浦": "Huangpu",
}
# fmt: on
#: No number of a flat is larger, the rent in yuan included.
LARGEST = 1e9
_BOX = {"Beijing": (115.3, 117.6, 39.4, 41.1), "Shanghai": (120.8, 122.2, 30.6, 31.9)}


@dataclass(frozen=True)
class Housing(Data):
    """Rents with covariates, city and district."""

    _BANNER = "SYNTHETIC RENTS: no number below says anything about a real city"

    table: str  #: one of ``TABLES``, or "synthetic"
    rent: np.ndarray  #: (n,), yuan a month
    X: np.ndarray  #: (n, d), the covariates
    features: tuple[str, ...]  #: names of the columns of X
    city: np.ndarray  #: (n,), "Beijing" or "Shanghai"
    district: np.ndarray  #: (n,), in Latin letters without tones; "" where it is not known
    coordinates: np.ndarray  #: (n, 2), longitude and latitude; NaN where not known, or far outside the city
    checksum: str  #: of the file, the first 12 digits; of nothing ("") if synthetic
    ceiling: float  #: 99th percentile of all rents in the file, those of other cities too

    def __len__(self) -> int:
        return len(self.rent)

    def rows(self, keep: np.ndarray) -> Housing:
        """Some of the rows: an index or a mask."""
        columns = ("rent", "X", "city", "district", "coordinates")
        return replace(self, **{name: getattr(self, name)[keep] for name in columns})

    def only(self, city: str) -> Housing:
        """One city, without the covariates that are missing throughout it and without the rows that miss one of the
        others.

        Examples
        --------
        >>> from localma.datasets import load_housing
        >>> data = load_housing(synthetic=True).only("Shanghai")
        >>> len(data), set(data.city.tolist())
        (1500, {'Shanghai'})
        """
        if city not in self.city:
            there = ", ".join(sorted(set(self.city.tolist())))
            raise ValueError(f"city {city!r} is not in the table {self.table!r}; there are {there}")
        here = self.rows(self.city == city)
        known = ~np.isnan(here.X).all(0)
        features = tuple(name for name, k in zip(here.features, known, strict=True) if k)
        whole = replace(here, X=here.X[:, known], features=features)
        return whole.rows(~np.isnan(whole.X).any(1))


def load_housing(
    table: str = "lianjia2023", *, path: str | Path | None = None, synthetic: bool = False, seed: int = 0
) -> Housing:
    """Monthly rents with covariates.

    Parameters
    ----------
    table : {"lianjia2023", "lianjia2019", "coordinates", "paper"}
        See :mod:`localma.datasets.housing`; "paper" reads the CSV of idatascience.cn as it comes.
    path : path, optional
        The file, or a folder that holds it. Default: ``LOCALMA_DATA``, then the user cache.
    synthetic : bool
        Make 3,000 rents up instead, with the covariates of the paper: Beijing and Shanghai, five districts each. No
        file is looked for.
    seed : int
        Of the synthetic rents.

    Returns
    -------
    Housing

    Raises
    ------
    FileNotFoundError, ValueError
        Naming the file, the column or the value, and the way out.

    Examples
    --------
    >>> from localma.datasets import load_housing
    >>> data = load_housing(synthetic=True)
    >>> data.X.shape, data.synthetic, data.features[:2]
    ((3000, 10), True, ('rooms', 'restrooms'))
    """
    choose("table", table, TABLES)
    if synthetic:
        return _made_up(seed)
    place = find(TABLES[table], path)
    covariates = COVARIATES[table]
    others = (
        {"rent": "价格", "district": "区", "city": "城市", "lng": "lng", "lat": "lat"}
        if table == "paper"
        else {"rent": "rent", "district": "district"}
    )
    frame = read_table(
        place, (*covariates.values(), *others.values()), f"Is it the table {table!r}? {TABLES[table].advice}"
    )
    if table in ROWS and len(frame) != ROWS[table]:
        raise ValueError(
            f"{place} has {len(frame):,} rows, but the table {table!r} has {ROWS[table]:,}: half a download or another"
            f" version; download it again. {TABLES[table].advice}"
        )
    if table == "paper":
        city = frame[others["city"]].astype(str).str.strip().str.removesuffix("市").replace(_CITIES)
    else:
        city = frame.get("city", pd.Series("Shanghai", frame.index))
    rent = _numbers(frame[others["rent"]], place)
    good = np.isfinite(rent) & (rent > 0)
    ceiling = float(np.quantile(rent[good], 0.99)) if good.any() else np.nan
    kept = city.isin(_BOX).to_numpy()
    if not kept.any():
        there = ", ".join(map(str, city.unique()[:5]))
        raise ValueError(
            f"{place}, column {others.get('city', 'city')!r}: no row of Beijing or Shanghai (北京, 上海), but of"
            f" {there}; is it another table? {TABLES[table].advice}"
        )
    frame, city, rent, good = frame[kept], city[kept].to_numpy(str), rent[kept], good[kept]
    X = np.column_stack([_numbers(frame[column], place) for column in covariates.values()])
    if not good.any():
        raise ValueError(
            f"{place}, column {others['rent']!r}: no row of Beijing or Shanghai has a rent above 0; write plain"
            f" numbers, yuan a month. {TABLES[table].advice}"
        )
    district = _districts(frame[others["district"]], place)
    lng, lat = (_numbers(frame[c], place) if c in frame else np.full(len(frame), np.nan) for c in ("lng", "lat"))
    for name, (west, east, south, north) in _BOX.items():
        astray = (city == name) & ~((lng > west) & (lng < east) & (lat > south) & (lat < north))
        lng[astray] = lat[astray] = np.nan
    data = Housing(
        table, rent, X, tuple(covariates), city, district, np.column_stack([lng, lat]), digest(place)[:12], ceiling
    )
    return data.rows(good)


def _numbers(column: pd.Series, place: Path) -> np.ndarray:
    """A column as numbers; yes and no in Chinese count as 1 and 0."""
    given = column.replace({"是": 1, "否": 0, "有": 1, "无": 0}) if column.dtype.kind not in "biuf" else column
    values = pd.to_numeric(given, errors="coerce")
    bad = (values.isna() & column.notna()) | ((values.abs() > LARGEST) & np.isfinite(values))
    if bad.any():
        raise ValueError(
            f"{place}, column {column.name!r}, row {row_in_file(bad)}: {column[bad].iloc[0]!r} is not a number of a"
            " flat; write plain numbers, such as 27000, without commas or units"
        )
    return values.to_numpy(float, copy=True)


def _districts(column: pd.Series, place: Path) -> np.ndarray:
    """In Latin letters; "" where the table names none."""
    short = column.map(
        lambda name: str(name).strip().removesuffix("区").removesuffix("县").removesuffix("新"), na_action="ignore"
    )
    bad = short.notna() & ~short.isin(_DISTRICTS)
    if bad.any():
        raise ValueError(
            f"{place}, column {column.name!r}, row {row_in_file(bad)}: the district {column[bad].iloc[0]!r} is not"
            f" known; write one of Beijing or Shanghai: {', '.join(_DISTRICTS)}; or leave it empty"
        )
    return short.map(_DISTRICTS).astype(object).fillna("").to_numpy(str)


def _made_up(seed: int) -> Housing:
    """Log rents that are linear in the covariates with coefficients of each district's own."""
    rng = np.random.default_rng(seed)
    n = 3000
    names = {
        "Beijing": ("Haidian", "Chaoyang", "Fengtai", "Daxing", "Huairou"),
        "Shanghai": ("Pudong", "Minhang", "Xuhui", "Putuo", "Jiading"),
    }
    city = np.repeat(list(names), n // 2)
    which = rng.choice(5, n, p=[0.25, 0.25, 0.2, 0.15, 0.15])
    district = np.array([names[c][k] for c, k in zip(city, which, strict=True)])
    rooms = rng.integers(1, 5, n)
    area = 25.0 * rooms * rng.lognormal(0, 0.25, n)
    floors = rng.integers(3, 34, n)
    # better furnished, farther out: covariates tell of the place
    flags = rng.random((n, 4)) < 0.2 + 0.15 * which[:, None]
    schools = rng.poisson(12 - 2 * which)
    X = np.column_stack([rooms, rng.integers(1, 3, n), rng.integers(0, 3, n), area, floors, flags, schools])
    of_area = (0.9 - 0.12 * which) * np.log(area)
    log_rent = 5.2 - 0.15 * which + of_area + 0.1 * flags.sum(1) + 0.02 * schools + 0.2 * rng.standard_normal(n)
    centre = np.array([[116.4, 39.9], [121.47, 31.23]])[(city == "Shanghai").astype(int)]
    angle = 2 * np.pi * which / 5
    circle = np.column_stack([np.cos(angle), np.sin(angle)])
    place = centre + 0.1 * circle * which[:, None] / 2 + 0.02 * rng.standard_normal((n, 2))
    rent = np.exp(log_rent).round()
    ceiling = float(np.quantile(rent, 0.99))
    return Housing("synthetic", rent, X, tuple(COVARIATES["paper"]), city, district, place, "", ceiling)
