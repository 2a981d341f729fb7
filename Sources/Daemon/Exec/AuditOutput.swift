internal import Configuration
internal import LinuxIO
internal import Logging

/// Where the audit of a program goes; a file is there before the program begins.
struct AuditOutput: ~Copyable {
  /// Nil: standard error.
  private let file: Descriptor?
  private let isJSON: Bool

  init(_ audit: ProgramConfiguration.Audit?, isJSON: Bool) throws(CommandFailure) {
    self.isJSON = isJSON
    switch audit {
    case .file(let path):
      do {
        file = try createFile(path)
      } catch {
        throw CommandFailure("--audit-file \(path): cannot be written: \(error)", .usage)
      }
    case .standardError, nil: file = nil
    }
  }

  /// Whatever comes of it, the program's exit status is what counts.
  func tell(_ report: AuditReport, _ log: Logger) {
    let text = isJSON ? report.json : report.table
    do throws(Errno) {
      switch file {
      case .some(let file): try write(text, to: file)
      case nil: writeStandardError(text)
      }
    } catch {
      log.error("cannot write the audit: \(error)", metadata: ["event": "audit_lost"])
    }
  }
}
