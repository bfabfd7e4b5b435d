#!/bin/bash
# From a data set to a subset on Slurm, without Ray: job arrays that share files, each begun when the one before is done.
#
#   DATASET=/data/faces MODEL=proxy.onnx OUT=/scratch/curated pipelines/slurm.sh
#
# DATASET, MODEL and OUT lie where all nodes see them. What is finished stays: when a task fails, look at its log in
# OUT/logs, cancel what waits for it, and run the same line again.
set -euo pipefail

: "${DATASET:?is the data set}" "${MODEL:?is the network to embed with}" "${OUT:?is a folder to write to}"
TASKS=${TASKS:-32}                  # of each array
KEEP=${KEEP:-0.6}                   # fraction of the faces
SURVEYS=${SURVEYS:-0}               # arrays before the first pass: 1 for --rank dataset, 2 for --rank confusable
EMBED_OPTIONS=${EMBED_OPTIONS:-}    # of facecore embed, as --flip
NMS_OPTIONS=${NMS_OPTIONS:-}        # of facecore nms, as --rank dataset
EMBED_RESOURCES=${EMBED_RESOURCES:---gpus=1 --cpus-per-task=8 --mem=32G --time=4:00:00}
NMS_RESOURCES=${NMS_RESOURCES:---cpus-per-task=8 --mem=16G --time=1:00:00}
MERGE_RESOURCES=${MERGE_RESOURCES:---cpus-per-task=8 --mem=64G --time=2:00:00}

mkdir -p "$OUT/logs"
embed="facecore embed $(printf %q "$DATASET") --model $(printf %q "$MODEL") --out $(printf %q "$OUT/embeddings") $EMBED_OPTIONS"
nms="test -e $(printf %q "$OUT/subset.parquet") || facecore nms --keep $KEEP --embeddings $(printf %q "$OUT/embeddings") --out $(printf %q "$OUT/subset.parquet") $NMS_OPTIONS"
share="--shard-index \$SLURM_ARRAY_TASK_ID --num-shards $TASKS"
before=()

submit() { # NAME COMMAND [OPTION...]: to be run when what was submitted before has ended well
    local job
    job=$(sbatch --parsable --requeue --kill-on-invalid-dep=yes --job-name="$1" --output="$OUT/logs/%x-%A-%a.log" \
        ${before[@]+"${before[@]}"} "${@:3}" --wrap "$2")
    before=("--dependency=afterok:${job%%;*}")
    echo "$1: job ${job%%;*}"
}

# the unquoted options are several words each
submit embed "$embed $share" --array="0-$((TASKS - 1))" $EMBED_RESOURCES
submit complete "$embed" $MERGE_RESOURCES
for ((survey = 1; survey <= SURVEYS; survey++)); do
    submit "survey-$survey" "$nms $share" --array="0-$((TASKS - 1))" $NMS_RESOURCES
done
submit profile "$nms $share" --array="0-$((TASKS - 1))" $NMS_RESOURCES
submit threshold "$nms --merge" $MERGE_RESOURCES
submit cut "$nms $share" --array="0-$((TASKS - 1))" $NMS_RESOURCES
submit subset "$nms --merge" $MERGE_RESOURCES
