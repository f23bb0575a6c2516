using Microsoft.Extensions.Logging;

namespace SieveAttention;

/// <summary>Messages of the managed layer.</summary>
internal static partial class DeviceLog
{
    [LoggerMessage(EventId = 1, Level = LogLevel.Information, Message = "Attention runs on {Device}.")]
    internal static partial void ChoseDevice(ILogger logger, string device);

    [LoggerMessage(EventId = 2, Level = LogLevel.Warning, Message = "Attention runs on the CPU, because CUDA is not available: {Reason}")]
    internal static partial void ChoseCpu(ILogger logger, string reason);

    [LoggerMessage(EventId = 3, Level = LogLevel.Debug, Message = "Opened {Device}; native library: {Library}.")]
    internal static partial void Opened(ILogger logger, string device, string library);
}
