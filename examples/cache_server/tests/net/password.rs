//! Commands without the password, and with it.

use crate::server::ServerProcess;

const NOAUTH: &str = "-NOAUTH Authentication required.\r\n";
const WRONG: &str = "-WRONGPASS invalid username-password pair or user is disabled.\r\n";

#[test]
fn no_command_is_executed_without_the_password() {
    let server = ServerProcess::start(&["--requirepass", "secret"]);
    let mut client = server.connect();
    for line in ["PING", "GET a", "CONFIG GET requirepass", "COMMAND", "SHUTDOWN", "CLIENT ID"] {
        assert_eq!(client.ask(line), NOAUTH, "{line}");
    }
    for line in ["AUTH no", "AUTH secretly", "AUTH secre", "AUTH default no", "AUTH root secret"] {
        assert_eq!(client.ask(line), WRONG, "{line}");
    }
    assert!(client.ask("HELLO 3").starts_with("-NOAUTH HELLO must be called"));
    assert_eq!(client.ask("HELLO 3 AUTH default no"), WRONG);
    assert_eq!(client.ask("PING"), NOAUTH);
    // An invalid request gets its own error first.
    assert_eq!(client.ask("GET"), "-ERR wrong number of arguments for 'get' command\r\n");
    assert_eq!(client.ask("RESET"), "+RESET\r\n");
    assert_eq!(client.ask("QUIT"), "+OK\r\n");
}

#[test]
fn the_password_allows_all_commands_until_reset() {
    let server = ServerProcess::start(&["--requirepass", "secret"]);
    let mut client = server.connect();
    assert_eq!(client.ask("AUTH secret"), "+OK\r\n");
    assert_eq!(client.ask("PING"), "+PONG\r\n");
    // A wrong password does not revoke the authentication.
    assert_eq!(client.ask("AUTH no"), WRONG);
    assert_eq!(client.ask("PING"), "+PONG\r\n");
    assert_eq!(client.ask("RESET"), "+RESET\r\n");
    assert_eq!(client.ask("PING"), NOAUTH);
    let hello = client.ask("HELLO 3 AUTH default secret SETNAME me");
    assert!(hello.starts_with("%7\r\n$6\r\nserver\r\n$5\r\nredis\r\n"), "{hello}");
    assert_eq!(client.ask("CLIENT GETNAME"), "$2\r\nme\r\n");
}

#[test]
fn a_password_can_be_set_and_taken_away() {
    let server = ServerProcess::start(&[]);
    let mut client = server.connect();
    assert!(client.ask("AUTH x").starts_with("-ERR AUTH <password> called without any password"));
    assert_eq!(client.ask("CONFIG SET requirepass secret"), "+OK\r\n");
    // An authenticated client stays authenticated.
    assert_eq!(client.ask("PING"), "+PONG\r\n");
    let mut other = server.connect();
    assert_eq!(other.ask("PING"), NOAUTH);
    client.send("*4\r\n$6\r\nCONFIG\r\n$3\r\nSET\r\n$11\r\nrequirepass\r\n$0\r\n\r\n");
    client.expect("+OK\r\n");
    assert_eq!(other.ask("PING"), "+PONG\r\n");
}
