#!/bin/bash
# Reads a built guest image and checks it against deploy/image/README.md: that its names are the
# hashes of its content, and that the file system holds what a session needs and nothing of what
# it must not have. usage: test_image.sh [IMAGE-FOLDER]; without one, the current image.
set -euo pipefail
export LC_ALL=C.UTF-8

repo=$(cd "$(dirname "$0")/../.." && pwd)
failed=0
readonly COMPILERS=' /usr/(bin|lib/gcc)/([a-z0-9_-]*-)?'\
'(gcc|g\+\+|cc|c\+\+|cpp|clang|ld|as|make)(-[0-9.]+)?$'
readonly UNWANTED=' /usr/(share/(man|info|locale)/|include/|.*/numpy/core/include'\
'|.*/(numpy|pandas|matplotlib)/(.*/)?tests/)'

skip() { echo "skipped: $*" && exit 77; }

# check WHAT COMMAND...: the command must succeed.
check() {
    local what=$1
    shift
    if ! "$@" >"$work/output" 2>&1; then
        echo "FAILED: $what"
        head -n 5 "$work/output" | sed 's/^/    /'
        failed=$((failed + 1))
    fi
}

absent() { ! grep -E "$@"; }

# Writes the manifest as lines: key and value; packages as python.NAME and debian.NAME.
flatten_manifest() {
    python3 - "$image/manifest.json" <<'FLATTEN'
import json, sys
manifest = json.load(open(sys.argv[1]))
for package in manifest.pop("python_packages"):
    print(f"python.{package['name'].lower()} {package['version']}")
for package in manifest.pop("created_from"):
    print(f"debian.{package['name']} {package['version']} {package['arch']}")
for key, value in manifest.items():
    for name, part in value.items() if isinstance(value, dict) else [("", value)]:
        print(f"{key}{'.' if name else ''}{name} {part}")
FLATTEN
}

manifest() { awk -v key="$1" '$1 == key { print $2; found = 1 } END { exit !found }' "$work/manifest"; }

names_are_hashes() {
    local name content
    (cd "$image" && sha256sum modules.cpio rootfs.sqfs vmlinuz) >"$work/sums"
    for name in modules.cpio rootfs.sqfs vmlinuz; do
        grep -qx "$(manifest "sha256.$name")  $name" "$work/sums" || return 1
        [[ $(stat -c %s "$image/$name") == "$(manifest "sizes.$name")" ]] || return 1
    done
    content=$(sha256sum <"$work/sums")
    [[ $content == "$(manifest content_hash)  -" ]] &&
        [[ ${content:0:16} == "$(manifest id)" ]] &&
        [[ $(basename "$(readlink -f "$image")") == "${content:0:16}" ]]
}

files_are_public() {
    [[ $(stat -c %a "$image") == 755 ]] &&
        [[ $(stat -c %a "$image"/* | sort -u) == 444 && $(find "$image" -type f | wc -l) == 4 ]]
}

# One line a file: mode, owner, path.
list_root() {
    unsquashfs -lln "$image/rootfs.sqfs" | sed -n 's/ -> .*//; s|squashfs-root||p' |
        awk '{ print $1, $2, ($6 == "" ? "/" : $6) }'
}

# is MODE OWNER PATH
is() {
    if ! grep -qx "$1 $2 $3" "$work/list"; then
        echo "wanted $1 $2, found: $(grep " $3\$" "$work/list")"
        return 1
    fi
}

program() { grep -qE "^(-rwxr-xr-x|lrwxrwxrwx) 0/0 /usr/bin/$1\$" "$work/list"; }

programs_are_there() {
    local name
    for name in python3 node bash ls find awk gawk ps curl git ipython3 env sh cat; do
        if ! program "$name"; then echo "no $name" && return 1; fi
    done
}

modules_match_order() {
    local folder=$work/initramfs
    mkdir "$folder"
    (cd "$folder" && cpio --quiet -idm <"$image/modules.cpio")
    diff <(sort "$folder/lib/warren/modules/order") \
        <(find "$folder/lib/warren/modules" -name '*.ko' -printf '%f\n' | sort) || return 1
    local name
    for name in virtio_mmio virtio_blk virtio_console squashfs overlay virtio_net; do
        grep -qx "$name.ko" "$folder/lib/warren/modules/order" || return 1
        grep -qaF "vermagic=$(manifest kernel_version) " \
            "$folder/lib/warren/modules/$name.ko" || return 1
    done
}

# Each Python source has its compiled twin, so nothing is compiled in the guest.
python_is_compiled() {
    diff <(grep -oE ' /usr/lib/python3(\.11)?/.*\.py$' "$work/list" | sed 's|\.py$||' | sort) \
        <(grep -oE ' /usr/lib/python3(\.11)?/.*\.cpython-311\.pyc$' "$work/list" |
            sed 's|/__pycache__||; s|\.cpython-311\.pyc$||' | sort)
}

manifest_tells_packages() {
    local name
    [[ $(manifest format) == 1 ]] || return 1
    for name in python.{numpy,pandas,matplotlib,ipython,setuptools} debian.{python3,nodejs,git}; do
        manifest "$name" || return 1
    done
    [[ $(manifest python_version) == 3.11.* && $(manifest ipython_version) == [0-9]*.* ]] &&
        [[ $(manifest node_version) =~ ^[0-9]+\.[0-9]+\.[0-9]+$ ]]
}

font_list_is_sound() {
    unsquashfs -cat "$image/rootfs.sqfs" "$1" >"$work/fonts.json" || return 1
    # Fonts that are named must exist, relative ones beside matplotlib's data.
    python3 - "$work/fonts.json" "$work/list" <<'CHECK'
import json, sys
there = {line.rstrip("\n").split(" ", 2)[2] for line in open(sys.argv[2])}
fonts = json.load(open(sys.argv[1]))["ttflist"]
data = "/usr/share/matplotlib/mpl-data/"
names = {f["fname"] if f["fname"][0] == "/" else data + f["fname"] for f in fonts}
missing = names - there
if missing or "DejaVu Sans" not in {f["name"] for f in fonts}:
    sys.exit(f"fonts that are not in the image: {missing}")
CHECK
}

main() {
    if (($# > 0)); then
        image=$1
    elif ! image=$("$repo/deploy/image/build" --print-path 2>/dev/null); then
        skip "no guest image: run deploy/image/build"
    fi
    if ! command -v unsquashfs >/dev/null; then skip "no unsquashfs"; fi
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    list_root >"$work/list"
    flatten_manifest >"$work/manifest"

    check "names are the hashes of the content" names_are_hashes
    check "the image's files are readable and read-only for everyone" files_are_public
    check "the manifest tells the packages" manifest_tells_packages
    check "the modules are those of the kernel, and in the order file" modules_match_order

    check "the root belongs to root" is drwxr-xr-x 0/0 /
    check "the data folder is the session's" is drwxr-xr-x 1000/1000 /mnt/data
    check "the home is the session's" is drwxr-xr-x 1000/1000 /home/session
    check "tmp is for everyone" is drwxrwxrwt 0/0 /tmp
    check "place for the agent" is drwxr-xr-x 0/0 /usr/lib/warren
    for name in /dev /proc /sys /run; do check "mount point $name" is drwxr-xr-x 0/0 "$name"; done
    check "nothing belongs to others" absent -v '^[^ ]+ (0/[0-9]+|1000/1000) ' "$work/list"
    check "the session owns only its places" \
        absent ' 1000/1000 /(([^mhu])|m[^n]|usr/([^l]|lib/([^w])))' "$work/list"
    check "no set-user-id or set-group-id programs" absent '^-(..|.....)[sS]' "$work/list"
    for name in hostname machine-id; do
        check "empty $name" test -z "$(unsquashfs -cat "$image/rootfs.sqfs" "etc/$name")"
    done
    check "the session's account" test "$(unsquashfs -cat "$image/rootfs.sqfs" etc/passwd |
        grep '^session:')" = 'session:*:1000:1000:session:/home/session:/bin/bash'

    check "the listed programs are there" programs_are_there
    check "no compilers" absent "$COMPILERS" "$work/list"
    check "no manuals, translations, headers, tests" absent "$UNWANTED" "$work/list"
    check "no package lists and archives" absent ' /var/(lib/apt|cache/apt)/' "$work/list"
    check "Python is compiled" python_is_compiled
    for name in usr/lib/warren/mplconfig home/session/.cache/matplotlib; do
        check "matplotlib's fonts in $name" font_list_is_sound "$name/fontlist-v330.json"
    done

    if ((failed)); then echo "$failed checks of $image failed" && exit 1; fi
    echo "image $image is sound ($(wc -l <"$work/list") entries)"
}

main "$@"
