# What a program's --help says of its options, in scdoc(5)'s words: each with its text, which a page breaks by its own width.

function say() {
	if (left != "")
		print "*" escape(left) "*\n\t" escape(text) "\n"
	left = text = ""
}

function escape(words) {
	gsub(/[\\*_`#<>~[]|\]/, "\\\\&", words)
	return words
}

/^  --/ {
	say()
	left = substr($0, 3)
	at = match(left, /   */)
	if (at) {
		text = substr(left, at + RLENGTH)
		left = substr(left, 1, at - 1)
	}
	next
}
/^          / && left != "" {
	sub(/^ */, "")
	text = text (text != "" ? " " : "") $0
	next
}
{ say() }
END { say() }
