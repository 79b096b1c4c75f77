# Builds, starts and ends a gateway for the scripts in tests/; they source this.

# Prints the path of the gateway to test: GATEWAY_BIN, or what cargo builds with profile $1 (dev or release).
gateway_binary() {
  if [ -n "${GATEWAY_BIN:-}" ]; then
    realpath "$GATEWAY_BIN"
    return
  fi
  cargo build --locked --profile "$1" --bin s2s-gateway >&2
  echo "$(gateway_target)/$([ "$1" = dev ] && echo debug || echo "$1")/s2s-gateway"
}

# Prints cargo's target folder for the gateway.
gateway_target() {
  cargo metadata --format-version 1 --no-deps --locked | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p'
}

# Starts the gateway $1 over a data directory of its own, with authentication, on a port of the system's choice, with its
# log in $2. It ends, and the directory goes, when the script ends. Sets gateway_url and root_token, which may do
# everything.
start_gateway() {
  local binary=$1 log=$2 line
  gateway_data=$(mktemp -d)
  root_token=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')
  coproc GATEWAY {
    S2S_ROOT_TOKEN=$root_token exec "$binary" serve --data-dir "$gateway_data" --listen 127.0.0.1:0 \
      --drain-timeout 1s --auth 2>"$log"
  }
  gateway_pid=$GATEWAY_PID
  trap end_gateway EXIT
  gateway_url=
  while [ -z "$gateway_url" ]; do
    if ! read -r -t 30 line <&"${GATEWAY[0]}"; then
      echo "the gateway did not start:" >&2
      cat "$log" >&2
      return 1
    fi
    gateway_url=$(sed -n 's/.* listens on \(http[^ ]*\).*/\1/p' <<<"$line")
  done
}

end_gateway() {
  kill "$gateway_pid" 2>/dev/null && wait "$gateway_pid" 2>/dev/null
  rm -rf "$gateway_data"
  return 0
}
