#![allow(dead_code)]
mod content;
mod keys;
mod quantity;
mod resp;
mod versions;
fn main() {}
#[test]
fn show() {
    for s in ["64", "500", "1000"] {
        let c = content::Content::new(content::Kind::Json, s.parse().unwrap(), 3.0);
        let mut o = vec![];
        c.write(123456, 2, &mut o);
        eprintln!("{}", String::from_utf8(o).unwrap());
    }
}
