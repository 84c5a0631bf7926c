# usage: awk -f words.awk FILE...
#
# Prints the lines that scripts/words flags, then their count. Text is: in a .md file all but code blocks;
# in Rust, comments, string literals and the names of functions; elsewhere, comments, the quoted words of
# echo, printf and die, and the help text between "<<END" and "END".

function flag(why) {
    printf "%s:%d: %s: %s\n", FILENAME, FNR, why, substr(line, 1, 160)
    found++
}

# has(WORDS): whether the text has one of these words or groups of words, in any case.
function has(words) {
    return lower ~ ("(^|[^a-z_])(" words ")([^a-z_]|$)")
}

# The string literals of a line, one after the other.
function literals(code,    rest, all) {
    rest = code
    gsub(/\\"/, "", rest)
    while (match(rest, /"[^"]*"/)) {
        # One word is a name.
        if (substr(rest, RSTART, RLENGTH) ~ / /) all = all " " substr(rest, RSTART + 1, RLENGTH - 2) "."
        rest = substr(rest, RSTART + RLENGTH)
    }
    return all
}

# The rules that need no grammar; for literals, too.
function check_words() {
    lower = tolower(text)
    if (has("somebody|someone|nobody|no one|anybody|anyone|everybody|everyone|whoever|whomever|whom"))
        flag("name the actor")
    if (has("others|others'")) flag("name the others")
    if (has("all that|indeed|for want of|whatever")) flag("say it plainly")
    if (has("he|him|his|himself|she|her")) flag("a thread is no person")
    if (has("touchers?|those who|the one who|one who|all who")) flag("name the thread")
}

# Rules for sentences.
function check_grammar() {
    if (!heading && text !~ /\?/) {
        if (has("who")) flag("name the actor, not \"who\"")
        if ((text ~ /(^|[.:;] )What / && (ends || text ~ /[.:;] What /)) ||
            text ~ /[.:;,] (and |but |so )?what (is|was|has|does|did|cannot|can|must|may|needs|comes|goes|lies|stands|fails|follows|remains)([^A-Za-z]|$)/)
            flag("name the thing, not \"what\"")
    }
    if (has("but for")) flag("say \"except\"")
    if (lower ~ /, for (there|it|they|we|you|nothing|none|this is|that is) /) flag("say \"because\"")
    if (has("(is|are|was|were|be|been|being) (looked (at|into|through|after)|spoken of|told of|thought of|to be had)"))
        flag("name who looks or says")
    if (has("can(not)? be had|none the worse")) flag("say it plainly")
    if (lower ~ /(^|[^a-z])so (many|often)([^a-z]|$)/ && lower !~ /so (many|often)[^.,;:]* (that|as) /)
        flag("name the number")
    if (lower ~ /[a-z] still([.;:]|$)/) flag("put \"still\" before the verb")
    if (lower ~ /(^|[.;:] )(nor|neither) (does|do|is|are|can|may|has|have|did|was|will) /) flag("begin with the subject")
}

FNR == 1 {
    markdown = FILENAME ~ /\.md$/
    rust = FILENAME ~ /\.rs$/
    fenced = help = 0
    ends = 1
}

{
    line = $0
    sub(/^[ \t]+/, "", line)
    text = said = ""
    if (markdown) {
        if (line ~ /^```/) { fenced = !fenced; ends = 1; next }
        if (!fenced) text = line
    } else if (rust) {
        if (match(line, /^\/\/[\/!]?/)) {
            text = substr(line, RLENGTH + 1)
            # A code block of the documentation.
            if (text ~ /^ *```/) { fenced = !fenced; ends = 1; next }
            if (fenced) next
        } else {
            fenced = 0
            if (match(line, /[;{},)] \/\/ /)) { text = substr(line, RSTART + 4); ends = 1 }
            said = literals(line)
        }
    } else if (help) {
        if (line == "END") { help = 0; ends = 1; next }
        text = line
    } else if (match(line, /^#+/)) {
        text = substr(line, RLENGTH + 1)
    } else {
        if (line ~ /<<'?END'?/) { help = 1; ends = 1; next }
        if (line ~ /(^|[^a-z])(echo|printf|die) /) said = literals(line)
    }
    if (rust && match(line, /fn [a-z0-9_]+/)) {
        name = substr(line, RSTART + 3, RLENGTH - 3)
        if (name ~ /(^|_)(who|whoever|whom|somebody|nobody|whatever|indeed|others|what_(is|was|cannot|does|has|pays))(_|$)/ ||
            name ~ /^what_/)
            flag("a name without its actor")
    }
    if (said != "") {
        keep = text
        text = said
        gsub(/`[^`]*`/, "", text)
        gsub(/(as|user|for) nobody('s)?/, "", text)
        check_words()
        text = keep
    }
    if (text == "") { ends = 1; next }
    heading = text ~ /^ *#/
    # Remove code, and the name of the account `nobody`.
    gsub(/`[^`]*`/, "CODE", text)
    gsub(/(as|As|user|User|for) nobody('s)?/, "", text)
    lower = tolower(text)
    check_words()
    check_grammar()
    ends = text ~ /[.:;!?)] *$/ || heading
}

END {
    if (found) { printf "words=%d\n", found; exit 1 }
    print "words=0"
}
