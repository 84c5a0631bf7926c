# usage: awk -f tally.awk [LOG...]
#
# Adds up the results of test programs, from the output of `cargo test` or of run-programs, and
# prints them as one line. libtest counts a skipped test as passed: it prints SKIPPED. A test that
# ran with one tracker of two prints PARTLY. A program that ends without a result, or badly after a
# good one, is one failure. The output of failed programs goes to standard error. Exits with 0 if
# tests ran and none failed.

function end_program(bad) {
    if (bad && program_failed == 0) { program_failed = 1; failed++ }
    if (program_failed > 0) printf "%s", output > "/dev/stderr"
    open = 0
}

open { output = output $0 "\n" }
/^== program / { if (open) end_program(1); open = 1; program_failed = 0; results = 0; output = $0 "\n" }
/^test result: / { results++; passed += $4; failed += $6; program_failed += $6 }
/(^|\.\.\. )SKIPPED / { skipped++ }
/(^|\.\.\. )PARTLY / { partly++ }
/^== exit / && open { end_program(results == 0 || $3 != 0) }

END {
    if (open) end_program(1)
    printf "passed=%d failed=%d skipped=%d partly=%d\n", passed - skipped, failed, skipped, partly
    exit !(passed > 0 && failed == 0)
}
