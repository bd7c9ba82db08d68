#!/usr/bin/env bash
# Measures every carrier beside the prototypes, SoftEther and OpenVPN over TCP, in network namespaces, with and without
# veth offloads. Needs root. PEERS names the benchmark program, PROTOTYPES the folder of the prototypes.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
PEERS=${PEERS:-$here/../../shared/bench/peers.py}
PROTOTYPES=${PROTOTYPES:-$here/../../shared/prototypes}
SECONDS_EACH=${SECONDS_EACH:-3}
ROUNDS=${ROUNDS:-3}
OTHERS=${OTHERS:-openvpn-tcp-tap-tuned,softether-tcp}
CARRIERS=${CARRIERS:-udp tcp tls ws wss quic}
OFFLOADS=${OFFLOADS:-with without}
export PROTOTYPES PYTHON="${PYTHON:-$here/../.venv/bin/python}"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export SECRET=$scratch/secret STATE_DIRECTORY=$scratch
"$PYTHON" -m compileall -q "$here/../caetun"  # as pip does for what it installs
"$PYTHON" -m caetun gensecret -o "$SECRET"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=localhost \
    -keyout "$scratch/key" -out "$scratch/cert" 2>/dev/null
export CERT=$scratch/cert KEY=$scratch/key

ours=()
for carrier in $CARRIERS; do
    common="--mode tap --transport $carrier --secret-file \$SECRET --mtu \$INNER_MTU --dev cae0 --log-level warning"
    ours+=(--custom "caetun-$carrier"
        --cmd-a "RUNTIME_DIRECTORY=$scratch/a exec \$PYTHON -m caetun $common --connect \$OUTER_B:4500 --address \$INNER_A/24"
        --cmd-b "RUNTIME_DIRECTORY=$scratch/b exec \$PYTHON -m caetun $common --listen \$OUTER_B:4500 --address \$INNER_B/24")
done
tcp='exec $PYTHON $PROTOTYPES/tcp_superframes.py'
quic='exec $PYTHON $PROTOTYPES/quic_superframes.py'
ours+=(--custom proto-tcp
    --cmd-a "sleep 1; $tcp c \$OUTER_A \$OUTER_B \$INNER_A \$INNER_MTU" --cmd-b "$tcp s \$OUTER_B \$OUTER_A \$INNER_B \$INNER_MTU"
    --custom proto-quic
    --cmd-a "sleep 1; $quic c \$OUTER_A \$OUTER_B \$INNER_A \$INNER_MTU \$CERT \$KEY"
    --cmd-b "$quic s \$OUTER_B \$OUTER_A \$INNER_B \$INNER_MTU \$CERT \$KEY")

status=0
for offload in $OFFLOADS; do
    echo
    echo "## veth $offload offloads"
    flag=(); [ "$offload" = with ] || flag=(--no-offload)
    python3 "$PEERS" --peers "$OTHERS" --mtu 1500 --seconds "$SECONDS_EACH" --rounds "$ROUNDS" "${flag[@]}" \
        --json "$scratch/$offload.json" "${ours[@]}" || status=$?
done
exit $status
