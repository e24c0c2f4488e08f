#!/usr/bin/env python3
"""Writes docs/man/synthesis.toml.5 from the tables of docs/configuration.md; with --check, says
whether it is so already. Run from anywhere."""
import os
import sys

os.chdir(os.path.join(os.path.dirname(__file__), "../.."))
import re
text=open('docs/configuration.md').read()
parts=re.split(r'^## ',text,flags=re.M)
sec={p.split('\n',1)[0]:p.split('\n',1)[1] for p in parts}
def plain(t):
    t=re.sub(r'\[([^\]]*)\]\([^)]*\)',r'\1',t)
    t=t.replace('**','').replace('`','').replace('…','...').replace('\\','\\e')
    t=t.strip()
    if t[:1] in '.\'': t='\\&'+t
    return t
def rows(body):
    out=[]
    for line in body.split('\n'):
        if not line.startswith('|'): continue
        cells=[c.strip() for c in line.strip().strip('|').split('|')]
        if set(line)<=set('|-') or cells[0].startswith('key') or cells[1]=='type': continue
        keys=re.findall(r'`([^`]+)`',cells[0])
        out.append((keys,cells[1],cells[2],cells[3],'|'.join(cells[4:])))
    return out
o=[]
o.append('''.\\" The keys are those of docs/configuration.md, which check-docs.sh holds this page against.
.TH SYNTHESIS.TOML 5 "" "Synthesis" "Synthesis"
.SH NAME
synthesis.toml, frontd.toml, spawnd.toml \\- configuration of frontd and spawnd
.SH SYNOPSIS
.I /etc/synthesis/frontd.toml
.br
.I /etc/synthesis/spawnd.toml
.SH DESCRIPTION
Each daemon has a file of its own, in TOML, of at most 1 MiB.
Both are read at start and again at SIGHUP.
What a file holds beyond the keys below, or out of their bounds, is refused with line and key;
.B frontd check\\-config
and
.B spawnd \\-\\-check\\-config
say so beforehand.
A dotted name is a key of the table before its last dot:
.B limits.processes
is
.B processes
in
.BR [limits] .
After each name stand its type, its default and its bounds.''')
def emit(rs):
    for keys,typ,default,bounds,meaning in rs:
        o.append('.TP\n.B '+', '.join(k for k in keys if k))
        facts=[plain(typ)]
        if default: facts.append('default '+plain(default) if default not in('required',) else 'required')
        if bounds: facts.append(plain(bounds))
        o.append('('+'; '.join(facts)+')')
        if meaning: 
            o.append('.br')
            o.append(plain(meaning)+('.' if not meaning.endswith('.') else ''))
o.append('.SH FRONTD.TOML')
emit(rows(sec['frontd.toml']))
o.append('''.PP
At SIGHUP everything holds from then on but
.BR listen ,
.B auth.mode
and
.BR bridge ,
which take a restart and are named in the log when they were changed.
A session that has a process keeps the limits that it began with.''')
o.append('.SH SPAWND.TOML')
o.append('''The file, and every program that it names, must be root's and writable by nobody else.
Entries of
.B users.allow
take what they leave out from
.BR users.defaults .
Sizes are bytes, or strings like "512M".''')
emit(rows(sec['spawnd.toml']))
o.append('''.SH SEE ALSO
.BR frontd (8),
.BR spawnd (8)''')

page = 'docs/man/synthesis.toml.5'
new = '\n'.join(o) + '\n'
if sys.argv[1:] == ['--check']:
    sys.exit(0 if os.path.exists(page) and open(page).read() == new else 1)
with open(page, 'w') as file:
    file.write(new)
