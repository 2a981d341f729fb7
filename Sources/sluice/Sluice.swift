internal import ArgumentParser
internal import Configuration
internal import Daemon
internal import Glibc
internal import Logging

/// Arguments in, exit code out.
@main
struct Sluice: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "sluice",
    abstract: "Sends a machine's, a LAN's or a program's TCP, UDP and DNS through a SOCKS5 server.",
    version: Release.version,
    // Each says what it is called: to find that out from its type takes a third of the way to its run.
    subcommands: [
      Run.self, Status.self, Flows.self, Top.self, Kill.self, Reload.self, Drain.self, Exec.self,
      Shell.self, Serve.self, Expose.self, Rules.self, Doctor.self, Probe.self, Explain.self,
      Check.self,
    ])

  static func main() {
    // Swift reads them there.
    if CommandLine.arguments.isEmpty {
      fail("/proc is not mounted: mount -t proc none /proc", .unavailable)
    }
    do {
      var command = try parseAsRoot()
      try command.run()
      end(ExitStatus.done.rawValue)
    } catch let failure as CommandFailure {
      fail(failure.message, failure.status)
    } catch let error as ConfigurationError {
      fail("\(error)", .usage)
    } catch let code as ExitCode {
      end(code.rawValue)
    } catch {
      // Help and version are "errors" with exit code 0, and print themselves.
      if exitCode(for: error) == .success { exit(withError: error) }
      if Exec.lacksDashes(CommandLine.arguments) {
        fail("\(ProgramConfiguration.noProgram)", .usage)
      }
      if Run.couldBeMeant(by: CommandLine.arguments) {
        fail("no command is named; perhaps: sluice run … (see: sluice --help)", .usage)
      }
      fail("\(message(for: error)) (see: sluice --help)", .usage)
    }
  }

  private static func fail(_ message: String, _ status: ExitStatus) -> Never {
    var line = Array("sluice: \(message)\n".utf8)
    _ = write(STDERR_FILENO, &line, line.count)
    end(status.rawValue)
  }

  /// Ends the process without the finalizers of libraries: a thread that asks a name server or a key
  /// distribution centre may still be inside of one, and would use what they take away.
  private static func end(_ status: Int32) -> Never {
    fflush(nil)
    _exit(status)
  }
}

/// How much is logged, and in which form.
struct LogOptions: ParsableArguments {
  @Option(help: "Log level: debug, info, notice, warning or error.")
  var logLevel = "info"

  @Flag(help: "Log one JSON object per line.")
  var json = false

  func logger() throws -> Logger { try StderrLog.logger(level: logLevel, isJSON: json) }
}

extension StderrLog {
  /// - Parameter level: as it is written on the command line.
  static func logger(level text: String, isJSON: Bool) throws -> Logger {
    guard let level = Logger.Level(rawValue: text) else {
      throw ValidationError(
        "--log-level \(text): expected debug, info, notice, warning or error")
    }
    return Logger(label: "sluice") { _ in StderrLog(isJSON ? .json : .text, level: level) }
  }
}
