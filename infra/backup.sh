#!/usr/bin/env bash
# Back up and restore what a year of audits needs: both databases, the artifacts' bucket, and the state directory.
#
#   infra/backup.sh save FOLDER                 a new folder; may run while the service does, best between two rounds
#   infra/backup.sh restore FOLDER              into EMPTY databases and an empty state directory; workers stopped
#
# Needs pg_dump/pg_restore/psql and tar. Reads from the environment: PGHOST PGPORT PGUSER PGPASSWORD, SKILLSTACK_STATE (the state directory),
# and for the bucket SKILLSTACK_BUCKET with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL and a Python that has boto3.
set -euo pipefail
databases=(prefect mlflow mlflow_users)
action=${1:?save or restore}
folder=${2:?the folder of the backup}
: "${SKILLSTACK_STATE:?the state directory}"

bucket() {
  "${PYTHON:-python3}" - "$1" "$2" "$SKILLSTACK_BUCKET" <<'PY'
import sys
from pathlib import Path

import boto3

action, folder, bucket = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
s3 = boto3.client("s3")
if action == "save":
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for entry in page.get("Contents", []):
            path = folder / entry["Key"]
            path.parent.mkdir(parents=True, exist_ok=True)
            s3.download_file(bucket, entry["Key"], str(path))
else:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            s3.upload_file(str(path), bucket, path.relative_to(folder).as_posix())
PY
}

case $action in
save)
  [ ! -e "$folder" ] || { echo "error: $folder is there already: name a new folder" >&2; exit 1; }
  mkdir -p "$folder.partial"
  for name in "${databases[@]}"; do pg_dump --format=custom --file "$folder.partial/$name.dump" "$name"; done
  # Stages that are being made are left out: a restored service makes them again.
  tar --create --file "$folder.partial/state.tar" --directory "$SKILLSTACK_STATE" --exclude='*.partial' --exclude='*.lock' .
  [ -z "${SKILLSTACK_BUCKET:-}" ] || { mkdir -p "$folder.partial/bucket"; bucket save "$folder.partial/bucket"; }
  (cd "$folder.partial" && find . -type f ! -name SHA256SUMS -print0 | sort -z | xargs -0 sha256sum > SHA256SUMS)
  mv "$folder.partial" "$folder"
  echo "saved to $folder"
  ;;
restore)
  (cd "$folder" && sha256sum --quiet --check SHA256SUMS)
  mkdir -p "$SKILLSTACK_STATE"
  [ -z "$(ls -A "$SKILLSTACK_STATE")" ] || { echo "error: $SKILLSTACK_STATE is not empty" >&2; exit 1; }
  # Compose's PostgreSQL makes the databases itself when it starts on an empty volume; another server has none.
  for name in "${databases[@]}"; do
    if [ -z "$(psql -Atc "SELECT 1 FROM pg_database WHERE datname = '$name'" postgres)" ]; then
      psql --quiet --command "CREATE DATABASE \"$name\"" postgres
    elif [ -n "$(psql -Atc "SELECT 1 FROM pg_tables WHERE schemaname = 'public' LIMIT 1" "$name")" ]; then
      echo "error: the database $name is not empty: restore before MLflow and Prefect start, or drop it" >&2
      exit 1
    fi
  done
  for name in "${databases[@]}"; do
    pg_restore --exit-on-error --no-owner --dbname "$name" "$folder/$name.dump"
  done
  tar --extract --file "$folder/state.tar" --directory "$SKILLSTACK_STATE"
  [ ! -d "$folder/bucket" ] || bucket restore "$folder/bucket"
  echo "restored from $folder; now: skillstack verify"
  ;;
*) echo "error: $action: save or restore" >&2; exit 1 ;;
esac
