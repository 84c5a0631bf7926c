# usage: awk -f table.awk RESULTS
#
# Reads measurements, lines of name=value with a round, a size, a side and what was measured. Prints one table
# with a row for each size, measured thing and side of ours, and the same words once more for its first row.
#
# Figures are medians over the rounds. A ratio is the median of the figure divided by Redis' figure of the
# same round. The worst row is first: a row is as good as the worse of two ratios, that of the throughput and the
# inverse of that of p99.9. Rows without Redis come in the order of their throughput.

function median(list, count,    i, j, swap) {
    if (!count) return ""
    for (i = 2; i <= count; i++)
        for (j = i; j > 1 && list[j - 1] > list[j]; j--) {
            swap = list[j]; list[j] = list[j - 1]; list[j - 1] = swap
        }
    return count % 2 ? list[(count + 1) / 2] : (list[count / 2] + list[count / 2 + 1]) / 2
}

# The median of a figure of a side, or that of its ratio to Redis; empty if there is none.
function figure(at, side, name, is_ratio,    r, n, list) {
    for (r = 1; r <= rounds; r++) {
        if (!((at, side, r, name) in value)) continue
        if (!is_ratio) list[++n] = value[at, side, r, name]
        else if ((at, "redis", r, name) in value && value[at, "redis", r, name] > 0)
            list[++n] = value[at, side, r, name] / value[at, "redis", r, name]
    }
    return median(list, n)
}

function shown(format, number) {
    return number == "" ? "-" : sprintf(format, number)
}

# The place of a row in the order; the smallest is first.
function goodness(at, side,    ops, tail) {
    ops = figure(at, side, "ops_per_second", 1)
    tail = figure(at, side, "p999_us", 1)
    if (ops == "") return 1e6 + figure(at, side, "ops_per_second", 0)
    return tail != "" && tail * ops > 1 ? 1 / tail : ops
}

function ms(at, side,    us) {
    us = figure(at, side, "p999_us", 0)
    return us == "" ? us : us / 1000
}

# Adds a line to the table.
function add(text,    n, i, cell) {
    lines++
    n = split(text, cell, " [|] ")
    for (i = 1; i <= n; i++) {
        cells[lines, i] = cell[i]
        if (length(cell[i]) > width[i]) width[i] = length(cell[i])
    }
    columns = n
}

function print_lines(    i, c, rule) {
    for (i = 1; i <= lines; i++) {
        for (c = 1; c <= columns; c++) printf "| %" (c > 3 ? "" : "-") width[c] "s ", cells[i, c]
        print "|"
        if (i > 1) continue
        for (c = 1; c <= columns; c++) {
            rule = sprintf("%" width[c] "s", "")
            gsub(/ /, "-", rule)
            printf("|-%s%s", rule, (c > 3 ? ":" : "-"))
        }
        print "|"
    }
}

{
    delete field
    for (i = 1; i <= NF; i++) if ((at = index($i, "=")) > 0) field[substr($i, 1, at - 1)] = substr($i, at + 1)
    if (!("ops_per_second" in field)) next
    at = field["size"] " | " field["what"]
    side = field["side"]
    round = field["round"] + 0
    if (round > rounds) rounds = round
    if ("hits" in field && field["hits"] + field["misses"] > 0)
        field["hit_percent"] = 100 * field["hits"] / (field["hits"] + field["misses"])
    for (name in field) value[at, side, round, name] = field[name] + 0
    if (!((at, side) in seen)) {
        seen[at, side] = 1
        if (side == "redis") redis[at] = 1
        else { rows++; row_at[rows] = at; row_side[rows] = side }
    }
}

END {
    # Without a side of ours, Redis has the rows.
    if (!rows) for (at in redis) { rows++; row_at[rows] = at; row_side[rows] = "redis" }
    for (i = 1; i <= rows; i++) { good[i] = goodness(row_at[i], row_side[i]) + 0; order[i] = i }
    for (i = 2; i <= rows; i++)
        for (j = i; j > 1 && good[order[j - 1]] > good[order[j]]; j--) {
            swap = order[j]; order[j] = order[j - 1]; order[j - 1] = swap
        }
    add("size | what | side | requests/s | Redis | ratio | p50 ratio | p99 ratio | p99.9 ms | Redis | ratio | CPU ratio | hits % | Redis")
    for (i = 1; i <= rows; i++) {
        at = row_at[order[i]]; side = row_side[order[i]]
        add(sprintf("%s | %s | %s | %s | %s | %s | %s | %s | %s | %s | %s | %s | %s", at, side,
            shown("%.0f", figure(at, side, "ops_per_second", 0)), shown("%.0f", figure(at, "redis", "ops_per_second", 0)),
            shown("%.2f", figure(at, side, "ops_per_second", 1)), shown("%.2f", figure(at, side, "p50_us", 1)),
            shown("%.2f", figure(at, side, "p99_us", 1)), shown("%.2f", ms(at, side)),
            shown("%.2f", ms(at, "redis")), shown("%.2f", figure(at, side, "p999_us", 1)),
            shown("%.2f", figure(at, side, "cpu_us_per_op", 1)), shown("%.1f", figure(at, side, "hit_percent", 0)),
            shown("%.1f", figure(at, "redis", "hit_percent", 0))))
    }
    print_lines()
    if (!rows) exit
    at = row_at[order[1]]; side = row_side[order[1]]
    split(at, part, " [|] ")
    printf "size=%s what=%s side=%s ops_ratio=%s p50_ratio=%s p99_ratio=%s p999_ratio=%s\n", part[1], part[2], side,
        shown("%.2f", figure(at, side, "ops_per_second", 1)), shown("%.2f", figure(at, side, "p50_us", 1)),
        shown("%.2f", figure(at, side, "p99_us", 1)), shown("%.2f", figure(at, side, "p999_us", 1))
}
