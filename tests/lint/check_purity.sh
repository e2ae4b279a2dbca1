#!/bin/sh
# A core may use nothing of the world: every undefined symbol must be allowed.
# usage: check_purity.sh NM ARCHIVE
set -eu
nm=$1 lib=$2
bad=$("$nm" -u "$lib" | awk '$1 == "U" { print $2 }' | sort -u | grep -vxE \
  'mem(cpy|move|set|cmp|chr|mem)|str(len|nlen|cmp|ncmp|chr|rchr|spn|cspn)|(base|proto|sched|worker|gw)_[a-z0-9_]+|warren__[a-z0-9_]+|protobuf_c_[a-z0-9_]+|__stack_chk_fail|__memcpy_chk|__memset_chk|__memmove_chk|_GLOBAL_OFFSET_TABLE_|__(a|ub|t)san_.*|__sanitizer_.*' || true)
[ -z "$bad" ] || { echo "$lib reaches outside its core:"; echo "$bad"; exit 1; }
