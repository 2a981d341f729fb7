internal import ArgumentParser
internal import Daemon

struct Serve: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Run the embedded SOCKS5 server alone.")

  @Option(help: "Address and port to listen on.")
  var listen = "127.0.0.1:1080"

  @Option(help: "User name that clients must give.")
  var user: String?

  @Option(help: ArgumentHelp("File with the password on its first line.", valueName: "file"))
  var passwordFile: String?

  @Flag(inversion: .prefixedNo, help: "Relay datagrams, too (UDP ASSOCIATE).")
  var udp = true

  @OptionGroup var logging: LogOptions

  func run() throws {
    try ServeCommand(
      listen: listen, login: login(), relaysDatagrams: udp, log: logging.logger()
    ).run()
  }

  private func login() throws -> (user: String, password: String)? {
    switch (user, passwordFile) {
    case (nil, nil): return nil
    case (let user?, let file?): return (user, try Secret.firstLine(of: file))
    case (_, nil), (nil, _): throw ValidationError("--user and --password-file go together")
    }
  }
}
