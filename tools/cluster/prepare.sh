#!/usr/bin/env bash
# Gets everything that a real node needs, so that starting one takes seconds: packages, binaries and images.
#
# What is there already is not made again. Where no node can run, what an API server needs is made all the same, and the
# exit code is 1. On two cores the first time takes twenty minutes, nearly all of it for Kubernetes' own binaries.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
if ! "$here/packages.sh"; then "$here/binaries.sh" api >/dev/null; exit 1; fi
"$here/binaries.sh" node >/dev/null
"$here/image.sh" fairlead >/dev/null
"$here/image.sh" postgres >/dev/null
