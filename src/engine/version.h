/* version - who we say we are.  Callers of CRIU ask for its version to know what it can do, and liblxc compares it as a
 * text with "2.0", so that its first digit has to be from 2 to 9 (docs/decisions.md). */
#pragma once

#define VERSION_MAJOR 4
#define VERSION_MINOR 2
#define VERSION_AS_CRIU "4.2"
#define VERSION_OURS "godwit-criu 0.1.0 of Godwit: CRIU's interface, not CRIU"
