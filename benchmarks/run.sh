#!/usr/bin/env bash
# Measures CaeTun beside other tunnels and the prototypes, in network namespaces, with and without veth offloads.
# Needs root. PEERS names the benchmark program, PROTOTYPES the folder of the prototypes; neither is in this repository:
# without the former, only the demo is measured. The exit status is that of what failed last.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
PEERS=${PEERS:-$here/../../shared/bench/peers.py}
PROTOTYPES=${PROTOTYPES:-$here/../../shared/prototypes}
SECONDS_EACH=${SECONDS_EACH:-4}
ROUNDS=${ROUNDS:-3}
OTHERS=${OTHERS:-veth,openvpn-udp-tap-tuned}
export PROTOTYPES PYTHON="${PYTHON:-$here/../.venv/bin/python}"

"$PYTHON" -m compileall -q "$here/../caetun"  # as pip does for what it installs
"$PYTHON" "$here/primitives.py"
"$PYTHON" "$here/optional.py"
if [ ! -f "$PEERS" ]; then
    echo "no $PEERS (set PEERS): measuring with the demo only" >&2
    exec "$PYTHON" -m caetun demo --seconds 10
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export SECRET=$scratch/secret
"$PYTHON" -m caetun gensecret -o "$SECRET"

tunnel() { # mode side
    local where
    if [ "$2" = a ]; then where='--connect $OUTER_B:4500 --address $INNER_A/24'; else where='--listen $OUTER_B:4500 --address $INNER_B/24'; fi
    echo "exec \$PYTHON -m caetun --mode $1 $where --secret-file \$SECRET --mtu \$INNER_MTU --dev cae0 --log-level warning"
}
prototype_a='exec $PYTHON $PROTOTYPES/udp_superframes.py $OUTER_A $OUTER_B $INNER_A $INNER_MTU'
prototype_b='exec $PYTHON $PROTOTYPES/udp_superframes.py $OUTER_B $OUTER_A $INNER_B $INNER_MTU'

status=0
for offload in "" --no-offload; do
    echo
    echo "## veth ${offload:-with offloads}"
    python3 "$PEERS" --peers "$OTHERS" --mtu 1500 --seconds "$SECONDS_EACH" --rounds "$ROUNDS" $offload \
        --json "${TMPDIR:-/tmp}/caetun-bench$offload.json" \
        --custom proto-udp --cmd-a "$prototype_a" --cmd-b "$prototype_b" \
        --custom caetun-tap --cmd-a "$(tunnel tap a)" --cmd-b "$(tunnel tap b)" \
        --custom caetun-tun --cmd-a "$(tunnel tun a)" --cmd-b "$(tunnel tun b)" || status=$?
done
exit "$status"
