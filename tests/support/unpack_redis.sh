#!/bin/sh
# A redis-server in FOLDER/bin, from Debian's packages and without installing them: unpack_redis.sh FOLDER
set -eu
mkdir -p "$1/bin" "$1/redis"
folder=$(cd "$1" && pwd)
cd "$folder/redis"
apt-get download --quiet=2 redis-server redis-tools liblzf1 libjemalloc2 libatomic1 2>/dev/null
for package in *.deb; do
    dpkg-deb --extract "$package" .
    rm "$package"
done
cat >"$folder/bin/redis-server" <<SCRIPT
#!/bin/sh
LD_LIBRARY_PATH=$(echo "$folder"/redis/usr/lib/*-linux-*) exec "$folder/redis/usr/bin/redis-server" "\$@"
SCRIPT
chmod +x "$folder/bin/redis-server"
"$folder/bin/redis-server" --version >/dev/null
