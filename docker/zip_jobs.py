"""Writes the zip for `spark-submit --py-files`: jobs, schemas and udfs with their data files.

Names are sorted and times fixed, so the same files give the same bytes.

    python docker/zip_jobs.py build/nightfold.zip
"""

import sys
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("jobs", "schemas", "udfs")


def main(target: Path) -> None:
    """Writes the zip: the same bytes for the same files."""
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*") if path.is_file()]
    target.parent.mkdir(parents=True, exist_ok=True)
    with ZipFile(target, "w", ZIP_DEFLATED) as archive:
        for path in sorted(files):
            if "__pycache__" not in path.parts:
                entry = ZipInfo(path.relative_to(ROOT).as_posix())
                entry.external_attr = 0o644 << 16
                archive.writestr(entry, path.read_bytes(), ZIP_DEFLATED)
    print(f"wrote {target}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python docker/zip_jobs.py FILE")
    main(Path(sys.argv[1]))
