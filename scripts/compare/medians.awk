# usage: awk -f medians.awk RESULTS
#
# Reads measurements, lines of name=value with a round, a side and what was measured. Prints a table: for
# each measured thing and side the medians over the rounds, and for each side except Redis the medians of
# its figures divided by Redis' figures of the same round.

function median(list, count,    i, j, swap) {
    for (i = 2; i <= count; i++)
        for (j = i; j > 1 && list[j - 1] > list[j]; j--) {
            swap = list[j]; list[j] = list[j - 1]; list[j - 1] = swap
        }
    return count % 2 ? list[(count + 1) / 2] : (list[count / 2] + list[count / 2 + 1]) / 2
}

BEGIN {
    columns = split("ops_per_second p50_us p99_us p999_us", column, " ")
    printf "%-24s %-8s %10s %10s %10s %10s   %s\n", "what", "side", "ops/s", "p50 us", "p99 us", "p99.9 us", \
        "divided by redis: ops p50 p99 p99.9"
}

{
    delete field
    for (i = 1; i <= NF; i++) if ((at = index($i, "=")) > 0) field[substr($i, 1, at - 1)] = substr($i, at + 1)
    if (!((what = field["what"]) in seen)) { seen[what] = 1; order[++things] = what }
    side = field["side"]
    if (!((what, side) in sides)) { sides[what, side] = ++kinds[what]; name[what, kinds[what]] = side }
    rounds = field["round"] > rounds ? field["round"] : rounds
    for (c = 1; c <= columns; c++)
        if (column[c] in field) value[what, side, field["round"], c] = field[column[c]]
}

END {
    for (t = 1; t <= things; t++) for (k = 1; k <= kinds[order[t]]; k++) {
        what = order[t]; side = name[what, k]
        line = sprintf("%-24s %-8s", what, side); ratios = ""
        for (c = 1; c <= columns; c++) {
            n = m = 0
            for (r = 1; r <= rounds; r++) {
                if (!((what, side, r, c) in value)) continue
                list[++n] = value[what, side, r, c] + 0
                if (side != "redis" && (what, "redis", r, c) in value && value[what, "redis", r, c] > 0)
                    quotient[++m] = list[n] / value[what, "redis", r, c]
            }
            line = line (n ? sprintf(c == 1 ? " %10.0f" : " %10.1f", median(list, n)) : sprintf(" %10s", "-"))
            if (m) ratios = ratios sprintf(" %.2f", median(quotient, m))
        }
        print line "  " ratios
    }
}
