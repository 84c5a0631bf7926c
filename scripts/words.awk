# Prints the lines that scripts/words flags. Text is what follows // or # in code, and all of a .md file.

function flag(why) {
    printf "%s:%d: %s: %s\n", FILENAME, FNR, why, substr(line, 1, 160)
    found++
}

FNR == 1 {
    markdown = FILENAME ~ /\.md$/
    rust = FILENAME ~ /\.rs$/
    fenced = 0
    ends = 1
}

{
    line = $0
    sub(/^[ \t]+/, "", line)
    text = ""
    if (markdown) {
        if (line ~ /^```/) { fenced = !fenced; ends = 1; next }
        if (!fenced) text = line
    } else if (rust) {
        if (match(line, /^\/\/[\/!]?/)) text = substr(line, RLENGTH + 1)
        else if (match(line, /[;{},)] \/\/ /)) { text = substr(line, RSTART + 4); ends = 1 }
    } else if (match(line, /^#+/)) {
        text = substr(line, RLENGTH + 1)
    }
    if (rust && match(line, /fn [a-z0-9_]+/)) {
        name = substr(line, RSTART + 3, RLENGTH - 3)
        if (name ~ /(^|_)(who|whoever|whom|somebody|nobody|whatever|indeed)(_|$)/ || name ~ /^what_/ ||
            name ~ /_others?$/)
            flag("a name without its actor")
    }
    if (text == "") { ends = 1; next }
    heading = text ~ /^ *#/
    # Code, the user nobody, and headings that ask.
    gsub(/`[^`]*`/, "", text)
    gsub(/(as|user|As|User|for) nobody('s)?/, "", text)
    if (text ~ /(^|[^A-Za-z])([Ss]omebody|[Nn]obody|[Ww]hoever|[Ww]hom)([^A-Za-z]|$)/) flag("name the actor")
    else if (!heading && text ~ /(^|[^A-Za-z])[Ww]ho([^A-Za-z]|$)/) flag("name the actor, not \"who\"")
    if (text ~ /(^|[^A-Za-z])[Oo]thers([^A-Za-z']|$)/) flag("name the others")
    if (text ~ /(^|[^A-Za-z])(all that|All that|[Ii]ndeed|for want of|[Ww]hatever)([^A-Za-z]|$)/) flag("say it plainly")
    if (!heading && text !~ /\?/ && (text ~ /(^|[.:;] )What / && (ends || text ~ /[.:;] What /) ||
        text ~ /[.:;,] (and |but |so )?what (is|was|has|does|did|cannot|can|must|may|needs|comes|goes|lies|stands|fails|follows|remains)([^A-Za-z]|$)/))
        flag("name the thing, not \"what\"")
    ends = text ~ /[.:;!?)] *$/ || heading
}

END {
    if (found) { printf "words=%d\n", found; exit 1 }
    print "words=0"
}
