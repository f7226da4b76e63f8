#!/usr/bin/env python3
"""Turns the linked agent into a C array, after looking that nothing in it needs a loader."""
import subprocess
import sys

elf, out = sys.argv[1], sys.argv[2]
text_max = 0x4000

relocations = subprocess.run(['readelf', '-rW', elf], capture_output=True, text=True, check=True).stdout
if 'no relocations' not in relocations:
    sys.exit('embed: the agent has relocations:\n' + relocations)
for line in subprocess.run(['readelf', '-SW', elf], capture_output=True, text=True, check=True).stdout.splitlines():
    words = line.replace('[ ', '[').split()
    if len(words) < 8 or not words[0].startswith('['):
        continue
    flags = words[7] if not words[7].isdigit() else ''
    if 'A' in flags and words[1] != '.text' and int(words[5], 16) != 0:
        sys.exit(f'embed: the agent has a section {words[1]}')
undefined = subprocess.run(['nm', '-u', elf], capture_output=True, text=True, check=True).stdout
if undefined.strip():
    sys.exit('embed: undefined symbols: ' + undefined)

binary = out + '.bin'
subprocess.run(['objcopy', '-O', 'binary', '-j', '.text', elf, binary], check=True)
data = open(binary, 'rb').read()
if not 0 < len(data) <= text_max:
    sys.exit(f'embed: the agent has {len(data)} bytes')
with open(out, 'w') as f:
    f.write('/* made by embed.py */\nstatic const unsigned char agent_blob[] = {\n')
    for i in range(0, len(data), 16):
        f.write('\t' + ' '.join(f'0x{b:02x},' for b in data[i:i + 16]) + '\n')
    f.write('};\n')
