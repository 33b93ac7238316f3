from training.voice_fitting import main

if __name__ == "__main__":
    main()
