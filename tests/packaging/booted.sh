#!/bin/sh
# In a booted root: the package's service under systemd itself.  Installs /m365proxy.deb, says "booted: fine" at
# the end, and powers off.
set -eu
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive
trap 'journalctl --no-pager -u m365proxy | tail -n 30; systemctl poweroff' EXIT
dpkg -i /m365proxy.deb
sh /service-test
# A filled-in config is taken over without a restart; nobody is signed in, and it says so.
hash=$(echo 'a word for one device' | m365proxy hash-password)
sed -i -e 's/00000000-0000/12345678-0000/' -e "s|what .m365proxy hash-password. prints|$hash|" \
  -e 's/"bind": "127.0.0.1"/"bind": "0.0.0.0", "tls": {"tls_cert": "auto"}/' /etc/m365proxy.json
for _ in $(seq 60); do
  systemctl status --no-pager m365proxy | grep 'smtp 0.0.0.0:2525' && break
  sleep 1
done
systemctl status --no-pager m365proxy | grep 'm365proxy login'
# Priorities: what matters is found without the rest
journalctl --no-pager -o cat -u m365proxy -p warning | grep 'WARNING run: .* is not filled in yet'
if journalctl --no-pager -o cat -u m365proxy -p warning | grep -E '^(INFO|<)'; then exit 1; fi
journalctl --no-pager -o cat -u m365proxy | grep '^INFO daemon: started'
systemctl reload m365proxy
systemctl is-active m365proxy
# All libraries work within the unit's limits: the whole way in and out, as a unit of the same settings
sed -e 's/^Type=.*/Type=oneshot/' -e 's/^Restart=.*/Restart=no/' -e '/^WatchdogSec/d' \
  -e 's|^ExecStart=.*|ExecStart=/usr/bin/m365proxy demo|' /lib/systemd/system/m365proxy.service \
  >/run/systemd/system/m365proxy-demo.service
systemctl daemon-reload
systemctl start m365proxy-demo
journalctl --no-pager -u m365proxy-demo | grep 'octet by octet'
# Low ports, without being root
sed -i 's/"smtp_port": 2525/"smtp_port": 25/' /etc/m365proxy.json
systemctl restart m365proxy
systemctl status --no-pager m365proxy | grep 'smtp 0.0.0.0:25'
# A hung program is ended by the watchdog and started anew
pid=$(systemctl show -P MainPID m365proxy)
mkdir -p /run/systemd/system/m365proxy.service.d
printf '[Service]\nWatchdogSec=2\nRestartSec=1\n' >/run/systemd/system/m365proxy.service.d/soon.conf
systemctl daemon-reload
systemctl restart m365proxy
pid=$(systemctl show -P MainPID m365proxy)
kill -STOP "$pid"
for _ in $(seq 60); do
  now=$(systemctl show -P MainPID m365proxy)
  [ "$now" != 0 ] && [ "$now" != "$pid" ] && systemctl is-active -q m365proxy && break
  sleep 1
done
[ "$now" != "$pid" ]
systemctl is-active m365proxy
# A second tenant, with a log file of its own; both services go on as what an upgrade brings
sed -e 's/"smtp_port": 25,/"smtp_port": 2526,/' \
  -e 's|"/var/lib/m365proxy"|"/var/lib/m365proxy/second", "logging": {"file": "/var/log/m365proxy/second.log"}|' \
  /etc/m365proxy.json | install -m 0640 -g m365proxy /dev/stdin /etc/m365proxy/second.json
systemctl enable --now m365proxy@second
systemctl status --no-pager m365proxy@second | grep 'smtp 0.0.0.0:2526'
test "$(stat -c '%a %U' /var/lib/m365proxy/second)" = "700 m365proxy"
test -s /var/log/m365proxy/second.log
first=$(systemctl show -P MainPID m365proxy) second=$(systemctl show -P MainPID m365proxy@second)
dpkg -i /m365proxy.deb
systemctl is-active m365proxy m365proxy@second
[ "$(systemctl show -P MainPID m365proxy)" != "$first" ]
[ "$(systemctl show -P MainPID m365proxy@second)" != "$second" ]
# A wrong config is a failed service, once
# (The starts before it do not count: systemd allows five in ten seconds.)
systemctl reset-failed m365proxy
sed -i 's/"smtp_port": 25/"smtp_port": "x"/' /etc/m365proxy.json
systemctl restart m365proxy || true
[ "$(systemctl show -P ExecMainStatus m365proxy)" = 78 ]
[ "$(systemctl is-active m365proxy)" = failed ]
# A package that is gone leaves nothing running, and a purge nothing but certificates
dpkg -r m365proxy
[ "$(systemctl is-active m365proxy@second)" = inactive ]
echo key >/etc/m365proxy/key.pem
touch /etc/m365proxy.json.2026-11-29 /etc/m365proxy-app.pem /etc/m365proxy-tenant.ps1 /etc/m365proxy/second-app.pem \
  /etc/m365proxy/second.json~
dpkg -P m365proxy
find /etc /var/lib/m365proxy /var/log/m365proxy -name '*m365proxy*' -o -path '/etc/m365proxy/*' -o -path '/var/l*' | tee /left
[ "$(sort /left)" = "$(printf '/etc/m365proxy\n/etc/m365proxy/key.pem')" ]
echo "booted: fine"
