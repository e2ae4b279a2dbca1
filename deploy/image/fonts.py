"""Makes matplotlib's list of fonts in MPLCONFIGDIR; run by the guest's own Python.

matplotlib lists the fonts in the order in which the builder's file system happens to return them,
and takes the first of two equally good ones: sorted, so that every build gives the same list.
"""

import json
import pathlib

import matplotlib
import matplotlib.font_manager as fonts

path = pathlib.Path(matplotlib.get_cachedir(), f"fontlist-v{fonts.FontManager.__version__}.json")
found = json.loads(path.read_text())
for key in ("afmlist", "ttflist"):
    found[key].sort(key=lambda font: (font["fname"], font["name"]))
    if key == "ttflist" and not found[key]:
        raise SystemExit("fonts: no font found")
path.write_text(json.dumps(found, indent=1))
for lock in path.parent.glob("*.matplotlib-lock"):
    lock.unlink()
