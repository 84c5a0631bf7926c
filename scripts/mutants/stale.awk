# usage: awk -f stale.awk ACCEPTED ALL
#
# Checks that each mutant of ACCEPTED has a reason above it, and that it exists in ALL (name, mutant, key) if
# ALL has mutants of its file. Fails otherwise.

BEGIN { FS = "\t" }
FILENAME == ARGV[2] { exists[$2]; sub(/:.*/, "", $2); files[$2]; next }
/^$/ { reason = 0 }
/^#/ { reason = 1 }
FILENAME == ARGV[1] && /^src/ {
    if (!reason) { print "NO REASON is given in scripts/mutants/accepted for " $0; failed = 1 }
    accepted[$0]
}
END {
    for (mutant in accepted) {
        file = mutant
        sub(/:.*/, "", file)
        if (file in files && !(mutant in exists)) {
            print "STALE: scripts/mutants/accepted has a mutant that does not exist: " mutant
            failed = 1
        }
    }
    exit failed
}
