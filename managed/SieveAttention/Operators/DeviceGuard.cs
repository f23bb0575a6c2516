namespace SieveAttention;

/// <summary>Checks of devices, streams and workspaces, shared by all operators.</summary>
internal static class DeviceGuard
{
    /// <summary>Streams and workspaces belong to a CUDA device and to the one that computes.</summary>
    internal static void Queue(AttentionDevice device, AttentionStream? stream, DeviceWorkspace? workspace)
    {
        if (device is not CudaDevice cuda)
        {
            if (stream is not null || workspace is not null)
            {
                throw new ArgumentException(
                    $"{device.Name} has neither streams nor workspaces; allowed: none.",
                    stream is not null ? nameof(stream) : nameof(workspace));
            }

            return;
        }

        if (stream is not null && stream.Device.Ordinal != cuda.Ordinal)
        {
            throw new ArgumentException($"The stream belongs to {stream.Device.Name}; the operator runs on {device.Name}.", nameof(stream));
        }

        if (workspace is not null && workspace.Device.Ordinal != cuda.Ordinal)
        {
            throw new ArgumentException(
                $"The workspace belongs to {workspace.Device.Name}; the operator runs on {device.Name}.", nameof(workspace));
        }
    }

    /// <summary>Refuses a device that does not have something yet, naming those that do.</summary>
    internal static void OnlyOn(AttentionDevice device, string what, params ReadOnlySpan<AttentionDeviceKind> kinds)
    {
        if (!kinds.Contains(device.Kind))
        {
            throw new NotSupportedException($"{what} does not run on {device.Name}; devices that have it: {Names(kinds)}.");
        }
    }

    private static string Names(ReadOnlySpan<AttentionDeviceKind> kinds)
    {
        List<string> names = [];
        foreach (AttentionDeviceKind kind in kinds)
        {
            names.Add(kind.ToString());
        }

        return string.Join(", ", names);
    }
}
