"""The look of the page: its one style, without pictures, fonts or scripts."""

from __future__ import annotations

from .render import Html

STYLE = Html("""
:root { color-scheme: light dark; --page: #f6f7f9; --card: #fff; --text: #1c2330; --quiet: #566072; --line: #dde1e8;
  --good: #176b3a; --good-back: #e4f4ea; --bad: #a31d1d; --bad-back: #fdeaea; --wait: #7a4b00; --wait-back: #fdf1d8;
  --code: #eef1f5; --link: #0b57b0; }
@media (prefers-color-scheme: dark) { :root { --page: #14171c; --card: #1d2128; --text: #e4e8ee; --quiet: #a3adbb;
  --line: #343b46; --good: #7fd6a0; --good-back: #17301f; --bad: #ffa3a0; --bad-back: #3c1c1d; --wait: #f2c572;
  --wait-back: #372a10; --code: #2a303a; --link: #8fbcff; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 70rem; padding: 1rem; background: var(--page); color: var(--text);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
header, section { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: 1rem 1.25rem;
  margin: 0 0 1rem; }
header { border-left: .5rem solid var(--good); }
header.bad { border-left-color: var(--bad); }
header p, footer, .quiet, caption, time { color: var(--quiet); }
header p, h1, h2, p { margin: 0; }
h1 { font-size: 1.7rem; line-height: 1.3; }
h1::before { content: "\\2713\\a0"; color: var(--good); }
.bad h1::before { content: "!\\a0"; color: var(--bad); }
h2 { font-size: 1.15rem; margin-bottom: .5rem; }
a { color: var(--link); }
nav { margin: 0 0 1rem; }
nav a { display: inline-block; padding: .25rem .75rem .25rem 0; }
p.quiet { margin-bottom: .5rem; }
ol { margin: 0; padding-left: 1.5rem; }
#todo li { margin-bottom: .75rem; }
code { font: .9em/1.5 ui-monospace, monospace; background: var(--code); border-radius: .25rem; padding: .1em .35em;
  user-select: all; -webkit-user-select: all; }
.commands code { display: table; margin-top: .35rem; padding: .25rem .6rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1.5rem; margin: 0; }
dt { color: var(--quiet); }
dt::first-letter { text-transform: uppercase; }
dd { margin: 0; }
table { width: 100%; border-collapse: collapse; }
caption { text-align: left; padding-bottom: .5rem; }
th, td { text-align: left; vertical-align: top; padding: .35rem 1rem .35rem 0; border-top: 1px solid var(--line); }
thead th { border-top: 0; color: var(--quiet); font-weight: normal; white-space: nowrap; }
tbody th { font-weight: 600; }
.name { white-space: nowrap; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
time { white-space: nowrap; font-variant-numeric: tabular-nums; }
summary { cursor: pointer; }
.message { border-top: 1px solid var(--line); padding: .35rem 0; }
.message ol { list-style: none; margin: .35rem .4rem; padding-left: .9rem; border-left: 2px solid var(--line); }
.mark { border-radius: 1rem; padding: .05rem .6rem; font-size: .875rem; display: inline-block; background: var(--code);
  max-width: 100%; overflow: hidden; text-overflow: ellipsis; white-space: nowrap;
  vertical-align: text-bottom; line-height: 1.45; }
.message .mark { min-width: 5.5rem; text-align: center; }
.mark.good { color: var(--good); background: var(--good-back); }
.mark.bad { color: var(--bad); background: var(--bad-back); }
.mark.wait { color: var(--wait); background: var(--wait-back); }
footer { font-size: .875rem; }
@media (max-width: 40rem) {
  body { padding: .5rem; }
  header, section { padding: .75rem; }
  dl { display: block; }
  dd { margin-bottom: .5rem; }
  .name { white-space: normal; }
  thead { display: none; }
  table, tbody, tr, th, td, caption { display: block; }
  tr { border-top: 1px solid var(--line); padding: .35rem 0; }
  th, td, td.number { border: 0; padding: .05rem 0; text-align: left; }
  td:empty { display: none; }
  td::before { content: attr(data-label) ": "; color: var(--quiet); }
}
@media print {
  body { max-width: none; background: none; }
  nav { display: none; }
  header, section { border-color: #888; }
  tr, .message { break-inside: avoid; }
}
""")
