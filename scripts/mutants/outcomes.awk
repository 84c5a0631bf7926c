# usage: awk -f outcomes.awk -v source=HASH ACCEPTED RESULTS WANTED
#
# Prints for each line of WANTED (name, mutant, key) its outcome in RESULTS, its name and the mutant. The
# outcome is "accepted" if ACCEPTED has the mutant, and "new" if RESULTS does not have it.

BEGIN { FS = OFS = "\t" }
FILENAME == ARGV[1] { if (/^src/) accepted[$0]; next }
FILENAME == ARGV[2] { results[$1] = $2; next }
{
    outcome = "new"
    if ($3 in results) outcome = results[$3]
    else if ($3 " " source in results) outcome = results[$3 " " source]
    if ($2 in accepted) outcome = "accepted"
    print outcome, $1, $2
}
