#!/usr/bin/env bash
# The reference list on a machine that is lent by the half hour: tunes, trains and times every row until MINUTES are over.
#
#   tools/gpu_reference.sh keep FILE...   keeps parts of one archive of pictures, in the order of their names
#   tools/gpu_reference.sh run            goes on with the list: what is recorded is not run again
#
# Needed: Python 3.11 with the modules that are checked first.  Neither Ray nor a package registry, nor a network.
# The list, and what to change, is below; README.md of results/reference tells it in full.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
SELF=tools/gpu_reference.sh
PYTHON=${PYTHON:-python3}            # whose torch sees the GPU
WHEELS=${WHEELS:-}                   # a folder of wheels for what is missing
WORK=${WORK:-build/gpu}              # pictures, installed wheels, logs
RESULTS=${RESULTS:-results}          # what is found; also read: what is there is not run again
DATA=${DATA:-$WORK/features}         # a folder in the precomp layout, or where features of the pictures go
CAPTIONS=${CAPTIONS:-}               # the JSON of the pictures, where DATA is not there yet
DEVICE=${DEVICE:-cuda}
PROCESSES=${PROCESSES:-4}            # rows trained side by side, a process each
MINUTES=${MINUTES:-28}               # until all ends, killed runs included; the same call goes on
TIMING=${TIMING:-6}                  # of them for the times, which are taken alone
SEEDS=${SEEDS:-1,2,3,4,5}
ALL=${ALL:-}                         # options of every run, such as --updates 4000
TUNE=${TUNE:-}                       # options of suite tune alone, such as --trials 4
ROWS=${ROWS:-vsepp vse_infty vsrn camera cvse saem vsepp+selfalign vse_infty+selfalign vsrn+selfalign \
camera+selfalign cvse+selfalign saem+selfalign scan:t2i-lse scan:i2t-lse bfan:equal naaf chan}
KEPT='records ranks concepts asked tuned checkpoints'  # of a folder; tables and pages are made again
NAME=$(basename "$DATA")
export OMP_NUM_THREADS=1 PYTHON RESULTS DATA DEVICE SEEDS ALL TUNE WORK
export PYTHONPATH=$PWD:$WORK/site${PYTHONPATH:+:$PYTHONPATH}

missing() {  # requirements of pyproject.toml, those of the extras named included, that are not here; one a line
    "$PYTHON" - "$@" <<'EOF'
import importlib.metadata as here, re, sys, tomllib
project = tomllib.load(open("pyproject.toml", "rb"))["project"]
extras = [need for name in sys.argv[1:] for need in project["optional-dependencies"][name]]
def numbers(version): return [int(part) for part in re.findall(r"\d+", version.partition("+")[0])]
for need in project["dependencies"] + extras:
    name, least = need.split(">=")
    try:
        if numbers(here.version(name)) >= numbers(least):
            continue
    except here.PackageNotFoundError:
        pass
    print(need)
EOF
}

check() {  # ends in one line where a module is missing
    local lost extras=()
    [[ $CAPTIONS ]] && extras+=(features)
    [[ $ALL == *text_model=minilm* ]] && extras+=(minilm)
    "$PYTHON" -c 'import tomllib' 2>/dev/null || { echo "missing: Python 3.11; name one by PYTHON=" >&2; exit 2; }
    lost=$(missing "${extras[@]}")
    if [[ $lost && $WHEELS ]]; then
        # shellcheck disable=SC2086  # a word each
        "$PYTHON" -m pip install -q --no-index --find-links "$WHEELS" --no-deps --upgrade --target "$WORK/site" $lost
        lost=$(missing "${extras[@]}")
    fi
    [[ ! $lost ]] || { echo "missing: ${lost//$'\n'/, }; put wheels of them into a folder: WHEELS=FOLDER" >&2; exit 2; }
}

harness() { timeout --kill-after=60 "$1" "$PYTHON" -m harness run --data "$DATA" --device "$DEVICE" --workers 0 "${@:2}"; }

left() { echo $((END - $(date +%s) > 1 ? END - $(date +%s) : 1)); }  # seconds until training ends

copied() {  # what is kept of one results folder, by hard links, into another
    local name
    for name in $KEPT; do
        [[ ! -d $1/$name ]] || { mkdir -p "$2" && cp -rlf "$1/$name" "$2/"; }
    done
}

known() {  # records of one row in the results, and what goes with them, into the row's own folder
    local suite record key name from
    for suite in "tune-$NAME" "full-$NAME"; do
        from=$RESULTS/$suite
        while read -r record; do
            key=$(basename "$record" .json)
            for name in "records/$key.json" "ranks/$key.npz" "concepts/$key.npz" "checkpoints/$key"; do
                [[ ! -e $from/$name ]] || { mkdir -p "$2/$suite/${name%/*}" && cp -rlf "$from/$name" "$2/$suite/${name%/*}/"; }
            done
        done < <(grep -lsF "\"label\": \"$1\"," "$from"/records/*.json)
    done
}

row() {  # one row: its trials, then its seeds, in a results folder of its own that shares the tuned settings
    local place=$WORK/rows/${1//[^a-z0-9_-]/_} state=0
    mkdir -p "$place" "$RESULTS/tuned"
    ln -sfn "$(realpath "$RESULTS/tuned")" "$place/tuned"
    known "$1" "$place"
    # shellcheck disable=SC2086  # options, a word each
    { harness "$(left)" --results "$place" --only "$1" --suite tune $ALL $TUNE &&
        harness "$(left)" --results "$place" --only "$1" --suite full --seeds "$SEEDS" --no-ensembles --timing-rounds 0 $ALL
    } >"$place.log" 2>&1 || state=$?
    for suite in "tune-$NAME" "full-$NAME"; do copied "$place/$suite" "$RESULTS/$suite"; done
    case $state in
        0) echo "$1" >>"$WORK/finished"; echo "finished  $1" ;;
        124 | 137 | 143) echo "goes on   $1: its time is over; the same call goes on" ;;
        *) echo "failed    $1: $(tail -n 1 "$place.log")" ;;
    esac
}

fits() {  # the lines of an estimate -> which rows fit into so many seconds, in the order of the list
    awk -v have="$1" '/^estimate/ && !/all rows:/ {
        took = 0; unit["s"] = 1; unit["min"] = 60; unit["h"] = 3600
        told = $0; sub(/.*: /, "", told); count = split(told, word, " ")
        for (at = 1; at < count; at += 2) took += word[at] * unit[word[at + 1]]
        sum += took; sub(/:$/, "", $2); list[sum <= have] = list[sum <= have] " " $2
    } END { printf "will fit  %s\nlater     %s\n", list[1] ? list[1] : "none", list[0] ? list[0] : "none" }'
}

estimate() {  # some real updates of every row, then which trials fit
    local told
    # shellcheck disable=SC2086
    told=$(harness $(($(left) / 4)) --results "$RESULTS" --only "${ROWS// /,}" --suite tune --dry-run $ALL $TUNE | grep -E '^(estimate|left out)' || true)
    printf '%s\n' "$told"
    fits $(($(left) * PROCESSES)) <<<"$told"
}

features() {  # of the parts that were kept
    [[ ! -e $DATA/test_ims.npy ]] || return 0
    [[ -d $DATA || $CAPTIONS ]] || { echo "no features in $DATA: name the captions of kept pictures by CAPTIONS=" >&2; exit 2; }
    [[ $CAPTIONS ]] || return 0
    cat "$WORK"/parts/* >"$WORK/pictures.tar"
    "$PYTHON" -m harness features --captions "$CAPTIONS" --pictures "$WORK/pictures.tar" --out "$DATA" \
        --device "$DEVICE" --reduce 256
}

times() {  # all rows that are through, in turns and alone; then the tables of them
    local rows
    rows=$(sort -u "$WORK/finished" 2>/dev/null | paste -sd,)
    [[ $rows ]] || { echo "no row is through: nothing was timed"; return 0; }
    # shellcheck disable=SC2086
    harness $((TIMING * 60)) --results "$RESULTS" --only "$rows" --suite full --seeds "$SEEDS" --no-ensembles $ALL
}

case ${1:-} in
    keep) mkdir -p "$WORK/parts" && cp "${@:2}" "$WORK/parts/" ;;
    row) row "$2" ;;  # one process of several
    run)
        END=$(($(date +%s) + (MINUTES - TIMING) * 60))
        export END
        mkdir -p "$WORK/rows"
        : >"$WORK/finished"
        check
        features
        estimate
        tr -s ' ' '\n' <<<"$ROWS" | xargs -P "$PROCESSES" -I{} "$SELF" row {}
        times
        for name in tuned "tune-$NAME" "full-$NAME"; do [[ ! -d $RESULTS/$name ]] || echo "$name"; done |
            tar -czf "$WORK/records.tgz" --exclude checkpoints --exclude scores --exclude figures -C "$RESULTS" -T -
        echo "records: $WORK/records.tgz"
        ;;
    *) sed -n '2,8s/^# \{0,1\}//p' "$SELF" >&2; exit 2 ;;
esac
