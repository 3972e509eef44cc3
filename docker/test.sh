#!/usr/bin/env bash
# Builds the image and tries it for real: see tests/docker/try_image.py. Needs root, buildah, podman, postfix,
# dovecot, gpg and the environment of `make test`. More options for buildah, such as volumes with a package
# index, may be given as arguments.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

image=localhost/encrypting-relay:test
buildah build --isolation chroot --format docker --network host "$@" --tag "$image" --file docker/Dockerfile .
.venv/bin/python -m tests.docker.try_image "$image"
