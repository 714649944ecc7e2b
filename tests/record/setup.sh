#!/bin/bash
# Installs the libraries that the recorders and the live programs run: setup.sh [NAME...]
#
#   node     BullMQ 3 to 6, Bull, node-resque     node/package-lock.json
#   go       asynq                                go/go.sum
#   apalis   apalis-redis                         rust/apalis/Cargo.lock
#   bookworm, trixie, forky                       Sidekiq and Laravel as these Debian releases have them
#
# All of them without a NAME. They go to ${LIBRARIES_CACHE:-.cache/libraries}; what is there and unchanged is skipped.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=${LIBRARIES_CACHE:-.cache/libraries}
mkdir -p "$cache/bin"
cache=$(cd "$cache" && pwd)

# fresh NAME FILE...: whether NAME was installed from these very files and this very standard input.
fresh() {
  local name=$1 sum
  shift
  sum=$(cat "$@" - | sha256sum)
  stamp=$cache/$name.stamp sum_now=$sum
  [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$sum" ]
}
installed() { echo "$sum_now" > "$stamp"; }

node() {
  fresh node "$here"/node/package.json "$here"/node/package-lock.json < /dev/null && return
  mkdir -p "$cache/node"
  cp "$here"/node/package.json "$here"/node/package-lock.json "$here"/node/.npmrc "$cache/node/"
  (cd "$cache/node" && npm ci --ignore-scripts --no-audit --no-fund --silent)
  installed
}

go_() {
  fresh go "$here"/go/go.mod "$here"/go/go.sum "$here"/go/*/*.go < /dev/null && return
  (cd "$here/go" && go build -mod=readonly -p 1 -o "$cache/bin/" ./...)
  installed
}

apalis() {
  fresh apalis "$here"/rust/apalis/Cargo.* "$here"/rust/apalis/src/*.rs < /dev/null && return
  CARGO_TARGET_DIR=$cache/rust cargo build --quiet --locked -j 1 --manifest-path "$here/rust/apalis/Cargo.toml"
  cp "$cache/rust/debug/apalis-record" "$cache/bin/apalis_record"
  installed
}

# debian SUITE: unpacks Sidekiq, Laravel and all that they need, down to libc, below $cache/SUITE, and writes
# $cache/bin/ruby-SUITE and $cache/bin/php-SUITE that run them. Nothing is installed on the machine itself, and the
# machine may be of another release. A release in the making moves on: the version in a fixture's name tells.
debian() {
  local suite=$1
  local packages="ruby-sidekiq php-cli php-redis php-predis php-illuminate-queue php-illuminate-redis php-illuminate-events"
  fresh "$suite" < <(echo "$packages"; declare -f debian) && return
  local apt=$cache/$suite.apt root=$cache/$suite uri
  uri=$(apt-get indextargets --format '$(ORIGIN) $(SUITE) $(REPO_URI)' 'Created-By: Packages' |
    awk '$1 == "Debian" && $2 !~ /security/ { print $3; exit }')
  [ -n "$uri" ] || { echo "no Debian mirror among apt's sources (after apt-get update)" >&2; return 1; }
  rm -rf "$apt" "$root"
  mkdir -p "$apt/lists/partial" "$apt/archives/partial" "$root"
  : > "$apt/status"
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $uri $suite main" > "$apt/sources.list"
  local options=(-qq -o Dir::Etc::sourcelist="$apt/sources.list" -o Dir::Etc::sourceparts=/dev/null
    -o Dir::State::lists="$apt/lists" -o Dir::State::status="$apt/status" -o Dir::Cache="$apt"
    -o Acquire::Languages=none -o Debug::NoLocking=1 -o APT::Install-Recommends=false -o APT::Sandbox::User="$(id -un)")
  apt-get "${options[@]}" update
  # shellcheck disable=SC2086
  apt-get "${options[@]}" install -y --download-only $packages > /dev/null
  for package in "$apt"/archives/*.deb; do dpkg-deb -x "$package" "$root"; done
  (cd "$apt/archives" && ls *.deb) > "$root/packages"
  rm -rf "$apt"

  local loader triplet
  loader=$(find "$root" -path '*-linux-gnu*/ld-linux*.so.*' -print -quit)
  triplet=$(basename "$(dirname "$loader")")
  local run="exec '$loader' --library-path '$root/lib/$triplet:$root/usr/lib/$triplet'"

  local ruby gems
  ruby=$(basename "$root"/usr/bin/ruby[0-9]*)
  gems=$(echo "$root"/usr/share/rubygems-integration/*/ "$root/usr/lib/$triplet/rubygems-integration"/*/ "$root"/var/lib/gems/*/ | tr ' ' ':')
  cat > "$cache/bin/ruby-$suite" << EOF
#!/bin/sh
export RUBYLIB='$root/usr/lib/ruby/vendor_ruby:$root/usr/lib/$triplet/ruby/vendor_ruby/${ruby#ruby}.0:$root/usr/lib/ruby/${ruby#ruby}.0:$root/usr/lib/$triplet/ruby/${ruby#ruby}.0'
export GEM_PATH='$gems' GEM_HOME='$root/gems'
$run '$root/usr/bin/$ruby' "\$@"
EOF

  local php modules
  php=$(basename "$root"/usr/bin/php[0-9]*)
  # Debian's autoloaders name each other by absolute paths.
  find "$root/usr/share/php" -name autoload.php -exec sed -i "s#'/usr/share/php/#'$root/usr/share/php/#g" {} +
  modules=$(dirname "$(find "$root/usr/lib/php" -name redis.so | head -1)")
  local extensions=
  for module in ctype tokenizer mbstring phar posix igbinary redis; do
    [ -f "$modules/$module.so" ] && extensions="$extensions -d extension=$module"
  done
  cat > "$cache/bin/php-$suite" << EOF
#!/bin/sh
$run '$root/usr/bin/$php' -n -d extension_dir='$modules'$extensions -d include_path='.:$root/usr/share/php' "\$@"
EOF
  chmod +x "$cache/bin/ruby-$suite" "$cache/bin/php-$suite"
  installed
}

[ $# -gt 0 ] || set -- node go apalis bookworm trixie forky
for name; do
  case $name in
    node | apalis) "$name" ;;
    go) go_ ;;
    bookworm | trixie | forky) debian "$name" ;;
    *) echo "setup.sh: no library $name" >&2; exit 64 ;;
  esac
done
